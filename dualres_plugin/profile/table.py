"""Profiles: the stored result of running a detector at both sizes over a dataset, once.

On disk a profile is a folder with `profile.json` (settings) and `profile.parquet` (one row per view). While it is
being built, every finished batch is a file of its own in `parts/`, so a killed run loses at most one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.images.video import VideoFrame
from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.profile.parts.rows import Rows, TableRows, group_of, open_rows
from dualres_plugin.profile.passes import HIGH, LOW, Pass, host_passes, routed_passes
from dualres_plugin.profile.schema import FORMAT_VERSION as FORMAT_VERSION
from dualres_plugin.profile.schema import SCHEMA as SCHEMA
from dualres_plugin.profile.schema import check_meta, checksum, wrong_thumbnails
from dualres_plugin.profile.views import View

META, ROWS, PARTS = "profile.json", "profile.parquet", "parts"
THUMB_SIZE = 160
MAX_DETECTIONS = 300  # stored per image: what detectors give at most; COCO looks at 100 per category


class Profile:
    """A profile: what a detector said about every image, and how it was asked.

    Numbers of each row are in memory; detections, objects and thumbnails of a large profile are read from its file
    when they are asked for, one row group at a time.

    Args:
        meta: settings: detector, sizes, categories, seed, versions, what was left out.
        rows: one row per view, sorted by image id and view (see `SCHEMA`): a table, or what `open_rows` gives.
        path: where it was read from.

    Attributes:
        meta: as given.
        path: as given.
        matched: what pycocotools matched, by rows, resolution and area; filled by `coco_match.match`.
    """

    def __init__(self, meta: dict[str, Any], rows: pa.Table | Rows, path: Path):
        self.meta = meta
        self.path = path
        self.matched: dict[tuple[bytes, str, tuple[float, float]], Any] = {}
        self._rows: Rows = TableRows(rows) if isinstance(rows, pa.Table) else rows
        self._numbers: dict[str, np.ndarray] = {}
        self._held: dict[str, tuple[int, Any]] = {}  # of each column its last group, decoded

    @property
    def table(self) -> pa.Table:
        """All rows as one table, thumbnails too: for profiles that fit into memory."""
        return self._rows.table()

    # -- reading -------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a finished profile.

        Args:
            path: its folder.

        Returns:
            The profile; detections, objects and thumbnails are read when they are asked for.

        Raises:
            DualResError: If it is missing, unfinished, damaged, edited or of another version.
        """
        path = Path(path)
        if not path.is_dir():
            raise DualResError(
                f"profile '{path}' does not exist. Make one with: dualres profile DETECTOR … --out {path}"
            )
        meta = check_meta(read_json(path / META, "profile description"), path / META)
        if "shard" in meta:
            raise DualResError(
                f"'{path}' is shard {meta['shard']} of a profile: make one of all with `dualres profile-merge`."
            )
        if not (path / ROWS).is_file():
            raise DualResError(
                f"profile '{path}' is not finished: run the same `dualres profile` command to resume it."
            )
        try:
            if meta.get("checksum") not in (None, checksum(path / ROWS)):
                raise DualResError(
                    f"profile '{path / ROWS}' cannot be read as the table that '{META}' was written for (its checksum "
                    "differs): copy both files again, or delete the folder and profile again."
                )
        except OSError as error:
            raise DualResError(f"profile '{path / ROWS}' cannot be read ({error}): profile again.") from None
        return cls(meta, open_rows(path / ROWS, meta), path)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def categories(self) -> dict[int, str]:
        """Name by category id."""
        return {int(k): v for k, v in self.meta["categories"].items()}

    @property
    def labelled(self) -> bool:
        """Whether it was made with annotations, so that it has losses, objects and AP."""
        return bool(self.meta["labelled"])

    @property
    def clips(self) -> bool:
        """Whether its images are frames of clips that it knows."""
        return bool(self.meta.get("clips"))

    @property
    def scale(self) -> float:
        """Low size / high size."""
        return float(self.meta["scale"])

    @cached_property
    def passes(self) -> list[Pass]:
        """The sizes that can be routed between, largest first."""
        return routed_passes(self.meta)

    @cached_property
    def host_passes(self) -> list[Pass]:
        """The host's own passes, largest first, the high one among them."""
        return host_passes(self.meta)

    def column(self, name: str) -> np.ndarray:
        """One scalar column.

        Args:
            name: of a column of `schema_of` that holds no list.

        Returns:
            (n,) values, NaN where there is none.
        """
        if name not in self._numbers:
            self._numbers[name] = self._rows.column(name).to_numpy()
        return self._numbers[name]

    @cached_property
    def views(self) -> np.ndarray:
        """(n,) view number of each row, 0 for the image itself."""
        return self.column("view")

    @property
    def originals(self) -> np.ndarray:
        """(m,) row numbers of the images themselves, without augmented views: what AP is measured on."""
        return np.flatnonzero(self.views == 0)

    @cached_property
    def groups(self) -> np.ndarray:
        """(n,) a number per source image, equal for all of its views: splits must not cut through these."""
        return np.unique(self.column("image_id"), return_inverse=True)[1]

    def thumbnails(self, rows: np.ndarray | None = None) -> Tensor:
        """RGB thumbnails.

        Args:
            rows: (m,) row numbers; all by default.

        Returns:
            (m, 3, S, S) uint8, S the profile's thumbnail size.
        """
        side = int(self.meta["thumbnail_size"])
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        pixels = np.empty((len(chosen), 3 * side * side), dtype=np.uint8)
        groups = np.searchsorted(self._rows.starts, chosen, side="right") - 1
        for group in np.unique(groups):
            column = self._group("thumbnail", int(group), self._thumbnails)
            for i in np.flatnonzero(groups == group):
                stored = column[int(chosen[i]) - self._rows.starts[group]]
                pixels[i] = np.frombuffer(stored.as_buffer(), dtype=np.uint8)
        return torch.from_numpy(pixels).view(-1, 3, side, side)

    def _thumbnails(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        problem = wrong_thumbnails(column, int(self.meta["thumbnail_size"]))
        if problem:
            raise DualResError(f"'{self.path / ROWS}' is damaged or was edited ({problem}): profile again.")
        return column

    def _group(self, name: str, group: int, decode: Callable[[pa.ChunkedArray], Any]) -> Any:
        """A column of a group. The last one is kept: neighbouring rows are asked for one after the other."""
        held, value = self._held.get(name, (-1, None))
        if held != group:
            self._held.pop(name, None)  # first, so that never two are in memory
            value = decode(self._rows.read(group, [name]).column(name))
            self._held[name] = group, value
        return value

    def _list(self, name: str, row: int) -> np.ndarray:
        group = group_of(self._rows, row)
        values, offsets = self._group(name, group, _flat)
        at = row - self._rows.starts[group]
        return np.asarray(values[offsets[at] : offsets[at + 1]])

    def detections(self, which: str, row: int) -> Detections:
        """What the detector found in one row.

        Args:
            which: "low", "high", or the name of another pass.
            row: its number.

        Returns:
            Boxes in the original image's pixels; labels are category ids.
        """
        return Detections(
            self._list(f"{which}_boxes", row).reshape(-1, 4),
            self._list(f"{which}_scores", row),
            self._list(f"{which}_categories", row).astype(np.int64),
        )

    def targets(self, row: int) -> Targets:
        """Ground truth of one row.

        Args:
            row: its number.

        Returns:
            Boxes in the original image's pixels; labels are category ids.
        """
        return Targets(
            self._list("gt_boxes", row).reshape(-1, 4),
            self._list("gt_categories", row).astype(np.int64),
            self._list("gt_ignore", row).astype(bool),
        )

    def image_path(self, row: int) -> Path:
        """The photo that a row came from; it may have moved since.

        Args:
            row: its number.

        Returns:
            The absolute path at the time.
        """
        group = group_of(self._rows, row)
        column = self._group("path", group, lambda stored: stored)
        return Path(column[row - self._rows.starts[group]].as_py())

    def image_file(self, row: int) -> ImageFile:
        """What to read the photo of a row from: the file, or a frame of a video.

        Args:
            row: its number.
        """
        path = self.image_path(row)
        return VideoFrame.of(path) or path

    def area(self, row: int) -> np.ndarray:
        """Object areas of one row, as the annotations state them.

        Args:
            row: its number.

        Returns:
            (N,) float32 square pixels, in the order of `targets`.
        """
        return self._list("gt_area", row)

    # -- compute ---------------------------------------------------------------------------------------------

    @property
    def gmacs(self) -> tuple[float, float]:
        """(low, high) mean GMACs per image, over the images themselves."""
        high, *_, low = self.costs
        return low, high

    @property
    def costs(self) -> list[float]:
        """Mean GMACs per image of each of the `passes`, over the images themselves."""
        return [float(self.column(f"gmacs_{p.name}")[self.originals].mean()) for p in self.passes]


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets of a column of lists."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
    return whole.values.to_numpy(zero_copy_only=False), whole.offsets.to_numpy()


def row_of(
    image_id: int,
    view: int,
    path: str,
    size: tuple[int, int],
    truth: View,
    found: tuple[Detections, Detections],
    losses: tuple[float | None, float | None],
    gmacs: tuple[float, float],
    thumbnail: np.ndarray,
    further: Mapping[str, tuple[Detections, float]] | None = None,
    frame_of: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """One row of the table. Pairs are (low, high).

    Args:
        image_id: the dataset's own.
        view: 0 for the image itself.
        path: of the photo.
        size: (height, width) in pixels.
        truth: objects of this view; empty without labels.
        found: detections, labels being category ids.
        losses: the detector's; None without labels.
        gmacs: compute in GMACs.
        thumbnail: (3, S, S) uint8 RGB.
        further: detections and GMACs by name of each pass beside these two.
        frame_of: of a profile of clips, the clip and the frame's number there.

    Returns:
        Values by column of `schema_of`.
    """
    row: dict[str, Any] = {
        "image_id": image_id,
        "view": view,
        "path": path,
        "height": size[0],
        "width": size[1],
        "loss_low": losses[0],
        "loss_high": losses[1],
        "gmacs_low": gmacs[0],
        "gmacs_high": gmacs[1],
        "gt_boxes": truth.boxes.reshape(-1),
        "gt_categories": truth.categories,
        "gt_ignore": truth.ignore,
        "gt_area": truth.area,
        "thumbnail": thumbnail.tobytes(),
    }
    for name, (_, spent) in (further or {}).items():
        row[f"gmacs_{name}"] = spent
    if frame_of is not None:
        row["clip"], row["frame"] = frame_of
    every = {LOW: found[0], HIGH: found[1], **{name: kept for name, (kept, _) in (further or {}).items()}}
    for name, detections in every.items():
        row[f"{name}_boxes"] = detections.boxes.reshape(-1)
        row[f"{name}_scores"] = detections.scores
        row[f"{name}_categories"] = detections.labels
    return row


def to_table(rows: Sequence[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows as an Arrow table.

    Args:
        rows: made by `row_of`.
        schema: of their profile, see `schema_of`.

    Returns:
        A table with its columns.
    """
    return pa.Table.from_pylist(list(rows), schema=schema)
