"""The folder of a profile in the making: finished batches are kept as parts, joined at the end."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, make_dir, read_json, write_json
from dualres_plugin.profile.dataset import Dataset
from dualres_plugin.profile.table import META, PARTS, ROWS, SCHEMA, Profile, to_table

logger = logging.getLogger("dualres")


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
        changed = [k for k in meta if old.get(k) != meta[k]]
        if changed:
            was = ", ".join(f"{k} {old.get(k)!r} -> {meta[k]!r}" for k in changed[:3] if k != "categories")
            raise DualResError(
                f"'{out}' holds a profile made with other settings ({was}). Choose another --out, or delete the folder."
            )
        if (out / ROWS).is_file():
            logger.info("profile %s is complete already", out)
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


def write_part(path: Path, rows: list[dict[str, Any]], skipped: list[str]) -> None:
    """Keep a finished batch; the file appears when it is complete.

    Args:
        path: see `part_file`.
        rows: made by `row_of`.
        skipped: images of the batch that could not be used, in words.
    """
    table = to_table(rows).replace_schema_metadata({"skipped": json.dumps(skipped)})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="none")  # short-lived, and photos hardly shrink


def finish(out: Path, meta: dict[str, Any], dataset: Dataset, count: int) -> Profile:
    """Join the parts into one sorted file; only then do the parts go.

    Args:
        out: the profile's folder.
        meta: settings of the profile.
        dataset: what was left out of it is written down.
        count: how many parts there are.

    Returns:
        The profile, read back.

    Raises:
        DualResError: If not one image could be used.
    """
    tables = [pq.read_table(part_file(out / PARTS, i)) for i in range(count)]
    skipped: list[str] = []
    for table in tables:
        skipped += json.loads((table.schema.metadata or {}).get(b"skipped", b"[]"))
    joined = pa.concat_tables([t.cast(SCHEMA).replace_schema_metadata(None) for t in tables])
    if not joined.num_rows:
        shutil.rmtree(out)
        raise DualResError(f"not one of {len(dataset.records)} images could be used; the first problem: {skipped[0]}")
    joined = joined.sort_by([("image_id", "ascending"), ("view", "ascending")])
    write_json(out / META, {**meta, "left_out": dataset.warnings() + skipped})
    with atomic_write(out / ROWS) as temporary:
        pq.write_table(joined, temporary, compression="zstd", compression_level=1)
    shutil.rmtree(out / PARTS)
    if skipped or dataset.dropped:
        logger.warning(
            "%d images or annotations were left out; %s lists them", len(skipped) + dataset.dropped.total(), out / META
        )
    return Profile.load(out)
