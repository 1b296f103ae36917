"""Profiles: the stored result of running a detector at both sizes over a dataset, once.

On disk a profile is a folder with `profile.json` (settings) and `profile.parquet` (one row per view). While it is
being built, every finished batch is a file of its own in `parts/`, so a killed run loses at most one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.profile.passes import HIGH, LOW, Pass, host_passes, routed_passes
from dualres_plugin.profile.schema import FORMAT_VERSION as FORMAT_VERSION
from dualres_plugin.profile.schema import SCHEMA as SCHEMA
from dualres_plugin.profile.schema import check_meta, check_table, checksum
from dualres_plugin.profile.views import View

META, ROWS, PARTS = "profile.json", "profile.parquet", "parts"
THUMB_SIZE = 160
MAX_DETECTIONS = 300  # stored per image: what detectors give at most; COCO looks at 100 per category


@dataclass
class Profile:
    """A profile in memory.

    Attributes:
        meta: settings: detector, sizes, categories, seed, versions, what was left out.
        table: one row per view, sorted by image id and view (see `SCHEMA`).
        path: where it was read from.
        matched: what pycocotools matched, by rows, resolution and area; filled by `coco_match.match`. A copy of a
            profile begins anew.
    """

    meta: dict[str, Any]
    table: pa.Table
    path: Path
    matched: dict[tuple[bytes, str, tuple[float, float]], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    # -- reading -------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a finished profile.

        Args:
            path: its folder.

        Returns:
            The profile; its lists are read when they are asked for.

        Raises:
            DualResError: If it is missing, unfinished, damaged, edited or of another version.
        """
        path = Path(path)
        if not path.is_dir():
            raise DualResError(
                f"profile '{path}' does not exist. Make one with: dualres profile DETECTOR … --out {path}"
            )
        meta = check_meta(read_json(path / META, "profile description"), path / META)
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
            table = pq.read_table(path / ROWS)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, DualResError):
                raise
            raise DualResError(f"profile '{path / ROWS}' cannot be read ({error}): profile again.") from None
        return cls(meta, check_table(table, meta, str(path / ROWS)), path)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def categories(self) -> dict[int, str]:
        """Name by category id."""
        return {int(k): v for k, v in self.meta["categories"].items()}

    @property
    def labelled(self) -> bool:
        """Whether it was made with annotations, so that it has losses, objects and AP."""
        return bool(self.meta["labelled"])

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
        values: np.ndarray = self.table.column(name).to_numpy()
        return values

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
        column = self.table.column("thumbnail")
        chosen = range(len(self)) if rows is None else rows
        if not len(chosen):
            return torch.zeros(0, 3, side, side, dtype=torch.uint8)
        raw = np.stack([np.frombuffer(column[int(i)].as_buffer(), dtype=np.uint8) for i in chosen])
        return torch.from_numpy(raw).view(-1, 3, side, side)

    @cached_property
    def _lists(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Flat values and offsets of every list column."""
        lists = {}
        for column_type in self.table.schema:
            name = column_type.name
            if pa.types.is_list(column_type.type):
                column = self.table.column(name).combine_chunks()
                if isinstance(column, pa.ChunkedArray):
                    column = column.chunk(0) if column.num_chunks else pa.array([], column_type.type)
                values = column.values.to_numpy(zero_copy_only=False)
                lists[name] = (values, column.offsets.to_numpy())
        return lists

    def _list(self, name: str, row: int) -> np.ndarray:
        values, offsets = self._lists[name]
        return values[offsets[row] : offsets[row + 1]]

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
        return Path(self.table.column("path")[row].as_py())

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
