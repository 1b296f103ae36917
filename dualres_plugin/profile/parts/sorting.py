"""From joined parts, in any order, to one sorted table: a row group at a time, so it may be larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualres_plugin.common.errors import DualResError


def write_sorted(files: Sequence[Path], out: Path, schema: pa.Schema, most: int) -> int:
    """Write the rows of all files, sorted by image id and view.

    Args:
        files: Arrow files of the schema; every image id and view is in one of them, once.
        out: the Parquet file.
        schema: of the profile.
        most: rows of a row group.

    Returns:
        How many rows there are.

    Raises:
        DualResError: If a file cannot be read, or an image and view is in two.
    """
    try:
        keys = [_keys(path) for path in files]
        file = np.concatenate([np.full(len(key), number, dtype=np.int32) for number, key in enumerate(keys)])
        row = np.concatenate([np.arange(len(key), dtype=np.int32) for key in keys])
        key = np.concatenate(keys)
        order = np.lexsort((key[:, 1], key[:, 0]))
        twice = np.flatnonzero((key[order[1:]] == key[order[:-1]]).all(axis=1))
        if len(twice):
            raise DualResError(f"image {key[order[twice[0]], 0]}, view {key[order[twice[0]], 1]} is there twice.")
        with pq.ParquetWriter(out, schema, compression="zstd", compression_level=1) as writer:
            for start in range(0, len(order), most):
                chosen = order[start : start + most]
                writer.write_table(_gather(files, file[chosen], row[chosen]).cast(schema), row_group_size=most)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DualResError(f"a part in '{files[0].parent}' cannot be read ({error}): run the command again.") from None
    return len(order)


def _keys(path: Path) -> np.ndarray:
    """(n, 2) image id and view of each row."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        return np.stack([table.column(name).to_numpy().astype(np.int64) for name in ("image_id", "view")], axis=1)


def _gather(files: Sequence[Path], file: np.ndarray, row: np.ndarray) -> pa.Table:
    """Rows by number of their file and number in it. Files are mapped, so only what is taken is read."""
    parts, places = [], []
    for number in np.unique(file):
        place = np.flatnonzero(file == number)
        with pa.memory_map(str(files[number])) as source:
            parts.append(pa.ipc.open_file(source).read_all().take(pa.array(row[place])).replace_schema_metadata(None))
        places.append(place)
    back = np.argsort(np.concatenate(places))
    return pa.concat_tables(parts).take(pa.array(back)).combine_chunks()
