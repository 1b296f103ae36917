"""The folder of a profile in the making: finished batches are kept as parts, joined at the end.

`parts/checksums.txt` has a line for each part. It is written before the part takes its name, so a part without a line
is one of an older version, and one that does not fit its line is damaged and made again.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, make_dir, read_json, write_json
from dualres_plugin.profile.data.records import Dataset
from dualres_plugin.profile.schema import SCHEMA, checksum, schema_of
from dualres_plugin.profile.table import META, PARTS, ROWS, Profile, to_table

logger = logging.getLogger("dualres")
CHECKSUMS = "checksums.txt"


def check_folder(out: Path, meta: dict[str, Any]) -> bool:
    """Start a profile's folder, or resume it.

    Args:
        out: the folder, which exists.
        meta: settings of the profile.

    Returns:
        True if the folder holds the finished profile already.

    Raises:
        DualResError: If it holds a profile made with other settings, or something else.
    """
    if (out / META).is_file():
        old = read_json(out / META, "profile description")
        if not isinstance(old, dict):
            raise DualResError(
                f"'{out / META}' does not describe a profile. Choose another --out, or delete the folder."
            )
        changed = [k for k in meta if old.get(k) != meta[k]]
        if changed:
            was = ", ".join(f"{k} {old.get(k)!r} -> {meta[k]!r}" for k in changed[:3] if k != "categories")
            raise DualResError(
                f"'{out}' holds a profile made with other settings ({was}). Choose another --out, or delete the folder."
            )
        if (out / ROWS).is_file():
            logger.info("profile %s is complete already", out)
            shutil.rmtree(out / PARTS, ignore_errors=True)  # a kill came between the table and this
            return True
        done = len(list((out / PARTS).glob("batch-*.parquet")))
        logger.info("resuming %s: %d batches are done", out, done)
    elif any(out.iterdir()):
        raise DualResError(f"'{out}' is not empty and not a profile. Choose another --out.")
    else:
        write_json(out / META, meta)
    make_dir(out / PARTS)
    return False


def part_file(parts: Path, i: int) -> Path:
    """Where a finished batch is kept.

    Args:
        parts: the folder of all of them.
        i: number of the batch.

    Returns:
        Its file.
    """
    return parts / f"batch-{i:06d}.parquet"


def write_part(path: Path, rows: list[dict[str, Any]], skipped: list[str], schema: pa.Schema = SCHEMA) -> None:
    """Keep a finished batch; the file appears when it is complete.

    Args:
        path: see `part_file`.
        rows: made by `row_of`.
        skipped: images of the batch that could not be used, in words.
        schema: of the profile.
    """
    table = to_table(rows, schema).replace_schema_metadata({"skipped": json.dumps(skipped)})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="none")  # short-lived, and photos hardly shrink
        with (path.parent / CHECKSUMS).open("a", encoding="utf-8") as file:
            file.write(f"\n{path.name} {checksum(temporary)}")  # a line that a kill cut short ends here


def read_checksums(parts: Path) -> dict[str, str]:
    """Checksum by name of a part, as `write_part` noted them; the last line of a part counts.

    Args:
        parts: the folder of all parts.

    Returns:
        Empty if there are none yet.
    """
    try:
        lines = (parts / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(" ", 1) for line in lines if " " in line)


def part_fits(path: Path, keys: Sequence[tuple[int, int]], known: str | None, schema: pa.Schema = SCHEMA) -> bool:
    """Whether a part is there, undamaged, and that of this batch.

    Args:
        path: see `part_file`.
        keys: image id and view of each row that the batch can have.
        known: its checksum, or None where none was noted.
        schema: of the profile.

    Returns:
        False for one that has to be made (again).
    """
    if not path.is_file():
        return False
    try:
        if known is not None and checksum(path) != known:
            raise ValueError("its checksum differs")
        file = pq.ParquetFile(path)
        if not file.schema_arrow.remove_metadata().equals(schema):
            raise ValueError("its columns are others")
        skipped = _skipped(file.schema_arrow)
        table = pq.read_table(path, columns=None if known is None else ["image_id", "view"])
        found = list(zip(table.column("image_id").to_pylist(), table.column("view").to_pylist()))
        if not set(found) <= set(keys) or len(found) + len(skipped) != len(keys):
            raise ValueError("it belongs to another batch")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("part %s is damaged and will be made again (%s)", path.name, error)
        return False
    return True


def _skipped(schema: pa.Schema) -> list[str]:
    skipped: list[str] = json.loads((schema.metadata or {}).get(b"skipped", b"[]"))
    return skipped


def finish(out: Path, meta: dict[str, Any], dataset: Dataset, count: int, notes: Sequence[str] = ()) -> Profile:
    """Join the parts into one sorted file; only then do the parts go.

    Args:
        out: the profile's folder.
        meta: settings of the profile.
        dataset: what was left out of it is written down.
        count: how many parts there are.
        notes: what to know before believing numbers from this profile.

    Returns:
        The profile, read back.

    Raises:
        DualResError: If not one image could be used, or a part was damaged meanwhile.
    """
    joined, skipped = _join(out / PARTS, count, schema_of(meta))
    if not joined.num_rows:
        shutil.rmtree(out)
        raise DualResError(f"not one of {len(dataset.records)} images could be used; the first problem: {skipped[0]}")
    joined = joined.sort_by([("image_id", "ascending"), ("view", "ascending")])
    meta = {**meta, "left_out": dataset.warnings() + skipped, "notes": list(notes), "rows": joined.num_rows}
    with atomic_write(out / ROWS) as temporary:
        pq.write_table(joined, temporary, compression="zstd", compression_level=1)
        # Before the table takes its name: a kill in between leaves an unfinished profile, which is finished again.
        write_json(out / META, {**meta, "checksum": checksum(temporary)})
    shutil.rmtree(out / PARTS)
    if skipped or dataset.dropped:
        logger.warning(
            "%d images or annotations were left out; %s lists them", len(skipped) + dataset.dropped.total(), out / META
        )
    return Profile.load(out)


def _join(parts: Path, count: int, schema: pa.Schema) -> tuple[pa.Table, list[str]]:
    """All rows, and what was skipped."""
    try:
        tables = [pq.read_table(part_file(parts, i)) for i in range(count)]
        skipped = [message for table in tables for message in _skipped(table.schema)]
        return pa.concat_tables([t.cast(schema).replace_schema_metadata(None) for t in tables]), skipped
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DualResError(f"a part in '{parts}' cannot be read ({error}): run the same command to mend it.") from None
