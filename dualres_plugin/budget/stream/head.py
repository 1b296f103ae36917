"""The stream head: the thumbnail's score and what is remembered, in one linear map, in the unit of the gain."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, with_config

from dualres_plugin.budget.stream.features import NAMES
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import write_json
from dualres_plugin.common.files.schema import GATE, Number, PlainDict, Quantiles, checked, read_object, shown
from dualres_plugin.common.files.shipped import router_folder

logger = logging.getLogger("dualres")
FILE, KIND, VERSION = "stream.json", "dualres-stream-head", 1

Weights = Annotated[list[Number], Field(min_length=1 + len(NAMES), max_length=1 + len(NAMES))]


@with_config(GATE)
@dataclass(frozen=True)
class StreamHead:
    """Scores a frame by its thumbnail and by what the stream remembers.

    Three maps, because they know different things: nothing of this scene yet; what one size saw, or both but long
    ago; what low lost of high, seen side by side.

    Attributes:
        first: weight of the thumbnail's score and bias, for the first frame of a scene.
        one, one_bias: weights of the score and of `features.NAMES`, where the sizes were not compared yet.
        both, both_bias: the same, where they were.
        score_quantiles: of the scores on the clips that it learned from, 0 to 100 %.
        info: what it was trained on.
    """

    first: Annotated[list[Number], Field(min_length=2, max_length=2)]
    one: Weights
    one_bias: Number
    both: Weights
    both_bias: Number
    score_quantiles: Annotated[Quantiles, Field(min_length=2)]
    info: PlainDict = field(default_factory=dict)

    def score(self, thumbnail: float, memory: StreamMemory) -> float:
        """The gain to expect of the frame that has arrived.

        Args:
            thumbnail: the router's score.
            memory: of its stream, after `arrive`.
        """
        if not memory.known:
            return self.first[0] * thumbnail + self.first[1]
        weights, bias = (self.one, self.one_bias) if memory.lost is None else (self.both, self.both_bias)
        return float(np.dot(weights, [thumbnail, *memory.features()]) + bias)

    def save(self, folder: Path | str) -> Path:
        """Put it beside a router.

        Args:
            folder: the router's.

        Returns:
            The file.
        """
        path = Path(folder) / FILE
        write_json(path, {"kind": KIND, "format_version": VERSION, "features": list(NAMES), **asdict(self)})
        return path

    @classmethod
    def load(cls, path: Path | str) -> StreamHead:
        """Read what `save` wrote.

        Args:
            path: the file, or the router's folder; "default" and "small" are those that ship.

        Raises:
            DualResError: If it is missing, damaged, edited or of another version.
        """
        file = router_folder(path)
        file = file if file.suffix == ".json" else file / FILE
        if not file.is_file():
            raise DualResError(
                f"'{file}' does not exist: this router has not learned to read the last frame. Teach it with: "
                f"dualres train-stream PROFILE --router {file.parent}, from a profile of clips."
            )
        found: dict[str, Any] = read_object(file, "stream head")
        if found.get("kind") != KIND or found.get("format_version") != VERSION:
            raise DualResError(f"'{file}' is no stream head of version {VERSION}: {shown(found.get('kind'))}.")
        if found.get("features") != list(NAMES):
            raise DualResError(f"'{file}' reads other features than this version has: run dualres train-stream again.")
        values = {key: value for key, value in found.items() if key not in ("kind", "format_version", "features")}
        return checked(cls, values, f"'{file}' is incomplete or edited")
