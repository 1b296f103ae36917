"""What a run of predict has done so far, kept line by line in its folder: nothing is lost, and the run can go on.

The tables of a run are written from its journal, at the end or when something stops it. A line is either what was
found in one image, or the names of files about to be written: a later run may replace those, and no others.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError, full_disk, is_full_disk
from dualres_plugin.common.types import Detections, ImageDecision
from dualres_plugin.predict.predictor import Prediction

logger = logging.getLogger("dualres")
JOURNAL = "unfinished.jsonl"
VERSION = 2


@dataclass(frozen=True)
class Record:
    """One image that is done.

    Attributes:
        source: path of the image, or name of the frame.
        name: as in `SourceImage`.
        found: what is listed of it, in pixels of the image.
        route: that it took.
        drawing, labels: files that were written, relative to the folder; "" for none.
    """

    source: str
    name: str
    found: Detections
    route: ImageDecision
    drawing: str
    labels: str

    @classmethod
    def of(cls, p: Prediction, least_score: float, drawing: str, labels: str) -> Record:
        """What is kept of a prediction.

        Args:
            p: the prediction.
            least_score: detections below this are left out.
            drawing, labels: as of the class.
        """
        chosen = p.found.scores >= least_score
        found = Detections(p.found.boxes[chosen], p.found.scores[chosen], p.found.labels[chosen])
        return cls(str(p.image.path or p.image.name), p.image.name, found, p.route, drawing, labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, exact."""
        return {
            "source": self.source,
            "name": self.name,
            "boxes": self.found.boxes.tolist(),
            "scores": self.found.scores.tolist(),
            "labels": self.found.labels.tolist(),
            "route": asdict(self.route),
            "files": [self.drawing, self.labels],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """The reverse of `to_dict`."""
        found = Detections(
            np.array(values["boxes"], dtype=np.float32).reshape(-1, 4),
            np.array(values["scores"], dtype=np.float32),
            np.array(values["labels"], dtype=np.int64),
        )
        return cls(values["source"], values["name"], found, ImageDecision(**values["route"]), *values["files"])


class Journal:
    """The journal of one run.

    Args:
        folder: of the results.
        settings: what the results depend on, as JSON has it; an unfinished run goes on with the same alone.

    Raises:
        DualResError: If the folder holds an unfinished run with other settings, or a file of that name that is none.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.path = folder / JOURNAL
        self.settings = json.loads(json.dumps(settings, default=str))
        self._file: int | None = None
        first = next((line for line, _ in self._whole()), None)
        self.begun = first is not None  # an unfinished run is there
        if first is not None:
            self._check(first)

    def _check(self, first: dict[str, Any]) -> None:
        if first.get("version") != VERSION or not isinstance(first.get("settings"), dict):
            raise DualResError(f"'{self.path}' is no unfinished run of this version: move it, or choose another --out.")
        old = first["settings"]
        changed = [k for k in {**old, **self.settings} if old.get(k) != self.settings.get(k)]
        if changed:
            was = ", ".join(f"{k} {old.get(k)!r} -> {self.settings.get(k)!r}" for k in changed[:3])
            raise DualResError(
                f"'{self.path.parent}' holds an unfinished run with other settings ({was}). Run it to its end, choose "
                f"another --out, or delete '{self.path}'."
            )

    def _whole(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Every line up to the first that was torn by whatever stopped the run, and where it ends in bytes."""
        if not self.path.exists():
            return
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                try:
                    value = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    value = None
                if not isinstance(value, dict):
                    return
                end += len(line)
                yield value, end

    def records(self) -> Iterator[Record]:
        """The images that are done, in their order."""
        return (Record.from_dict(line) for line, _ in self._whole() if "route" in line)

    def files(self) -> set[str]:
        """Names, relative to the folder, of every file that was written or was about to be."""
        return {name for line, _ in self._whole() for name in line.get("files", ()) if name}

    def open(self, files: set[str], anew: bool) -> None:
        """Begin to write.

        Args:
            files: names of files that may be replaced.
            anew: forget the images that are done.
        """
        if anew:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            self._write({"version": VERSION, "settings": self.settings}, {"files": sorted(files)})
        else:
            whole = max((end for _, end in self._whole()), default=0)
            os.truncate(self.path, whole)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def announce(self, *names: str) -> None:
        """Say which files come next, before they are written.

        Args:
            names: relative to the folder.
        """
        self._write({"files": list(names)})

    def add(self, record: Record) -> None:
        """Note that an image is done."""
        self._write(record.to_dict())

    def _write(self, *lines: dict[str, Any]) -> None:
        assert self._file is not None
        left = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            while left:  # unbuffered: a line that does not fit fails here, not when the file is closed
                left = left[os.write(self._file, left) :]
        except OSError as error:
            if is_full_disk(error):
                raise full_disk(self.path) from error
            raise

    def close(self, remove: bool) -> None:
        """Stop writing.

        Args:
            remove: the run is over, or has nothing that could be resumed.
        """
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if remove:
            self.path.unlink(missing_ok=True)
