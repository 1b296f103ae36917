"""What a stored profile must hold: the gate through which every profile is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import checked
from dualres_plugin.profile.data.coco_json import MOST_PIXELS
from dualres_plugin.profile.passes import HIGH, LOW, MOST_SIZES, extra_names, routed_passes

FORMAT_VERSION = 1
LADDER_VERSION = 2  # of a profile with more than two passes; with two nothing has changed
MAX_CATEGORY = 2**31 - 1

_floats, _ints = pa.list_(pa.float32()), pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("view", pa.int32()),
        ("path", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("loss_high", pa.float32()),
        ("loss_low", pa.float32()),
        ("gmacs_high", pa.float32()),
        ("gmacs_low", pa.float32()),
        ("gt_boxes", _floats),
        ("gt_categories", _ints),
        ("gt_ignore", pa.list_(pa.bool_())),
        ("gt_area", _floats),
        ("high_boxes", _floats),
        ("high_scores", _floats),
        ("high_categories", _ints),
        ("low_boxes", _floats),
        ("low_scores", _floats),
        ("low_categories", _ints),
        ("thumbnail", pa.binary()),
    ]
)
CLIP_FIELDS = (pa.field("clip", pa.string()), pa.field("frame", pa.int32()))  # of a profile of clips
NULLABLE = {"loss_high", "loss_low"}  # there are none without labels


def schema_of(meta: Mapping[str, Any]) -> pa.Schema:
    """The columns of a profile.

    Args:
        meta: content of its `profile.json`.

    Returns:
        `SCHEMA`, the columns of each further pass, and those of clips. Versions that know nothing of clips read such a
        profile as one of photos.
    """
    extra = [
        field
        for name in extra_names(meta)
        for field in (
            pa.field(f"gmacs_{name}", pa.float32()),
            *(pa.field(f"{name}_{part}", kind) for part, kind in zip(PARTS_OF_PASS, (_floats, _floats, _ints))),
        )
    ]
    extra += CLIP_FIELDS if meta.get("clips") else ()
    return pa.schema([*SCHEMA, *extra]) if extra else SCHEMA


PARTS_OF_PASS = ("boxes", "scores", "categories")


def _groups(meta: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Lists that belong together: name of the boxes, and of the columns with one value per box."""
    passes = {f"{name}_boxes": (f"{name}_scores", f"{name}_categories") for name in (HIGH, LOW, *extra_names(meta))}
    return {"gt_boxes": ("gt_categories", "gt_ignore", "gt_area"), **passes}


Count = Annotated[int, Field(ge=1, le=10**9)]
Text = Annotated[str, Field(max_length=10_000)]
Sizes = Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(max_length=MOST_SIZES)]


class ProfileMeta(BaseModel):
    """`profile.json`. Keys of later versions are let through.

    Attributes:
        format_version: of folder and table.
        kind: what tells it from other JSON.
        host: the adapter's name.
        detector: for people.
        detector_fingerprint: tells detectors apart; "" where it is not known.
        dataset: for people.
        dataset_fingerprint: tells data sets apart; "" where it is not known.
        labelled: made with annotations.
        categories: name by category id.
        high: the high size in pixels.
        scale: low / high ratio.
        between: sizes in pixels between high and low, largest first; none in a profile of two sizes.
        host_sizes: sizes in pixels at which the host's own pass is stored too.
        views: per image.
        batch: images per pass.
        seed: of the views.
        thumbnail_size: side of the thumbnails in pixels.
        half: what the passes computed in; None as the detector is.
        clips: each image is a frame of a clip; then the table says of which one.
        left_out: what was left out, and why.
        notes: what to know before believing numbers from it.
        rows: of the table; profiles of before this was written down have none, nor a checksum.
        checksum: of the table's file, see `checksum`.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    format_version: Literal[1, 2]
    kind: Literal["dualres-profile"]
    host: Text
    detector: Text
    detector_fingerprint: Text = ""
    dataset: Text
    dataset_fingerprint: Text = ""
    labelled: bool
    categories: dict[Annotated[str, Field(pattern=r"^-?[0-9]{1,10}$")], Text]
    high: Annotated[float, Field(ge=1, le=65_536)]
    scale: Annotated[float, Field(gt=0, lt=1)]
    between: Sizes = []
    host_sizes: Sizes = []
    views: Count
    batch: Count
    seed: Annotated[int, Field(ge=0)] = 0
    thumbnail_size: Annotated[int, Field(ge=1, le=4096)]
    half: Literal["fp16", "bf16"] | None = None
    clips: bool = False
    left_out: list[Text] = []
    notes: list[Text] = []
    rows: Count | None = None
    checksum: Text | None = None


def check_meta(meta: Any, path: Path) -> dict[str, Any]:
    """The content of a `profile.json`, if it is one.

    Args:
        meta: as it was read.
        path: of the file, for messages.

    Returns:
        The same.

    Raises:
        DualResError: If a key is missing, or of the wrong type or range.
    """
    if not isinstance(meta, dict) or meta.get("kind") != "dualres-profile":
        raise DualResError(f'\'{path}\' does not describe a profile (no "kind": "dualres-profile").')
    version = meta.get("format_version")
    if version not in (FORMAT_VERSION, LADDER_VERSION) or isinstance(version, bool):
        raise DualResError(
            f"profile '{path.parent}' has format version {str(version)[:40]}, this dualres-plugin "
            f"reads versions {FORMAT_VERSION} and {LADDER_VERSION}: profile again."
        )
    checked(ProfileMeta, meta, f"'{path}' is damaged or was edited, profile again")
    if any(abs(int(number)) > MAX_CATEGORY for number in meta["categories"]):
        raise DualResError(f"'{path}' is damaged or was edited ('categories': an id past 32 bits): profile again.")
    ladder = [p.size for p in routed_passes(meta)]
    if any(a <= b for a, b in pairwise(ladder)) or len(set(meta.get("host_sizes", ()))) < len(
        meta.get("host_sizes", ())
    ):
        raise DualResError(f"'{path}' is damaged or was edited (its sizes do not descend): profile again.")
    return meta


def checksum(path: Path) -> str:
    """Of a file's bytes, to notice damage and swapped files. It is no protection against somebody who means harm.

    Args:
        path: of the file.

    Returns:
        Such as "blake2b:" and 32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"blake2b:{digest.hexdigest()}"


def check_table(table: pa.Table, meta: dict[str, Any], where: str) -> pa.Table:
    """The table of a profile, if it holds what its description says.

    Args:
        table: as it was read.
        meta: checked by `check_meta`.
        where: names the file in messages.

    Returns:
        The same with exactly the columns and types of `schema_of`.

    Raises:
        DualResError: If columns, values or their numbers do not fit together.
    """
    try:
        table = fitted(table, schema_of(meta))
        problem = _problem(table, meta)
    except (pa.ArrowException, KeyError, ValueError) as error:
        problem = f"columns: {error}"
    _refuse(problem, where)
    return table


def check_file(file: pq.ParquetFile, meta: dict[str, Any], where: str) -> None:
    """As `check_table`, one row group at a time; thumbnails are looked at when they are read.

    Args:
        file: of the table.
        meta: checked by `check_meta`.
        where: names the file in messages.

    Raises:
        DualResError: If columns, values or their numbers do not fit together.
    """
    schema = schema_of(meta)
    numbers = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    others = [f.name for f in schema if f.name not in numbers and f.name != "thumbnail"]
    try:
        fitted(file.schema_arrow.empty_table(), schema)
        table = fitted(file.read(columns=numbers), schema, numbers)
        problem = _wrong_counts(table, meta) or _wrong_scalars(table, meta)
        for group in range(file.num_row_groups):
            if not problem:
                part = fitted(file.read_row_group(group, columns=others), schema, others)
                problem = _holes(part) or _wrong_lists(part, meta)
    except (pa.ArrowException, KeyError, ValueError) as error:
        problem = f"columns: {error}"
    _refuse(problem, where)


def fitted(table: pa.Table, schema: pa.Schema, names: Sequence[str] | None = None) -> pa.Table:
    """A table that was read, in the types of a schema.

    Args:
        table: from a file.
        schema: see `schema_of`.
        names: which of its columns; all by default.

    Raises:
        pa.ArrowException, KeyError: If a column is missing, damaged or of another type.
    """
    table.validate(full=True)  # offsets that fit, text that is UTF-8: reading does not look
    wanted = schema if names is None else pa.schema([schema.field(name) for name in names])
    return table.select(wanted.names).cast(wanted).replace_schema_metadata(None)


def wrong_thumbnails(column: pa.ChunkedArray, side: int) -> str:
    """What is wrong with stored thumbnails; "" if nothing is.

    Args:
        column: of the table.
        side: of the thumbnails in pixels.
    """
    wrong = column.null_count or pc.any(pc.not_equal(pc.binary_length(column), 3 * side * side)).as_py()
    return f"a thumbnail that is not {side} x {side}" if wrong else ""


def _refuse(problem: str, where: str) -> None:
    if problem:
        raise DualResError(f"'{where}' is damaged or was edited ({problem}): profile again.")


def _problem(table: pa.Table, meta: dict[str, Any]) -> str:
    """What is wrong with a table; "" if nothing is."""
    return (
        _wrong_counts(table, meta)
        or _wrong_scalars(table, meta)
        or wrong_thumbnails(table.column("thumbnail"), int(meta["thumbnail_size"]))
        or _wrong_lists(table, meta)
    )


def _wrong_counts(table: pa.Table, meta: dict[str, Any]) -> str:
    if not table.num_rows:
        return "no rows"
    if meta.get("rows") not in (None, table.num_rows):
        return f"{table.num_rows} rows, its description says {meta['rows']}"
    return _holes(table)


def _holes(table: pa.Table) -> str:
    empty = [name for name in table.schema.names if name not in NULLABLE and table.column(name).null_count]
    return f"column '{empty[0]}' has holes" if empty else ""


def _wrong_scalars(table: pa.Table, meta: dict[str, Any]) -> str:
    image, view = (table.column(name).to_numpy() for name in ("image_id", "view"))
    order = (np.diff(image) > 0) | ((np.diff(image) == 0) & (np.diff(view) > 0))
    if not order.all():
        return f"rows {int(np.argmin(order)) + 1} and {int(np.argmin(order)) + 2} are not in order of image and view"
    if view.min() < 0 or view.max() >= meta["views"]:
        return f"a view outside 0 to {meta['views'] - 1}"
    if not (view == 0).any():
        return "no image itself, views only"
    if meta.get("clips") and table.column("frame").to_numpy().min() < 0:
        return "a frame below 0"
    for name in ("height", "width"):
        if table.column(name).to_numpy().min() < 1:
            return f"column '{name}' holds a size below 1"
    pixels = table.column("height").to_numpy().astype(np.int64) * table.column("width").to_numpy()
    if pixels.max() > MOST_PIXELS:
        return f"a picture of {pixels.max()} pixels: more than {MOST_PIXELS} are no photo"
    for name in (f"gmacs_{p}" for p in (LOW, HIGH, *extra_names(meta))):
        values = table.column(name).to_numpy()
        if not np.isfinite(values).all() or values.min() < 0:
            return f"column '{name}' holds no compute"
    return ""


def _wrong_lists(table: pa.Table, meta: dict[str, Any]) -> str:
    known = np.array([int(number) for number in meta["categories"]], dtype=np.int64)
    for boxes, others in _groups(meta).items():
        count = pc.list_value_length(table.column(boxes)).to_numpy()
        for name in others:
            if (pc.list_value_length(table.column(name)).to_numpy() * 4 != count).any():
                return f"columns '{boxes}' and '{name}' differ in length"
        for name in (boxes, *others):
            values = pc.list_flatten(table.column(name))
            if values.null_count:
                return f"column '{name}' has holes"
            if pa.types.is_floating(values.type) and not np.isfinite(values.to_numpy()).all():
                return f"column '{name}' holds NaN or infinity"
            if name.endswith("categories") and not np.isin(np.unique(values.to_numpy()), known).all():
                return f"column '{name}' holds categories that its description does not list"
    return ""
