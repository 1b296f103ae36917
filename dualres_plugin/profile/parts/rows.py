"""Where the rows of a profile are read from: memory, or a file that is read one row group at a time.

A profile of all of COCO has 9 GB of thumbnails. So a file of more than one row group stays on disk, and what is asked
for is read by row group; readers that go through the rows in order read each group once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.schema import check_file, check_table, fitted, schema_of

GROUP_ROWS, GROUP_BYTES = 1000, 64 * 2**20


def group_rows(thumbnail_size: int) -> int:
    """Rows of a row group, and of a part that is being built: 1,000, or 64 MB of thumbnails if that is less.

    Args:
        thumbnail_size: side of the thumbnails in pixels.

    Returns:
        At least 1.
    """
    return max(1, min(GROUP_ROWS, GROUP_BYTES // (3 * thumbnail_size**2)))


class TableRows:
    """Rows in memory: one group.

    Args:
        table: see `schema_of`.

    Attributes:
        starts: number of the first row of each group.
    """

    def __init__(self, table: pa.Table):
        self._table = table
        self.starts = [0]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a group.

        Args:
            group: its number.
            columns: their names.
        """
        return self._table.select(list(columns))

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all rows.

        Args:
            name: of the column.
        """
        return self._table.column(name)

    def table(self) -> pa.Table:
        """Everything."""
        return self._table


class FileRows:
    """Rows in a Parquet file of several groups.

    Args:
        file: the open file, checked by `check_file`.
        meta: content of its `profile.json`.
        where: names the file in messages.

    Attributes:
        starts: number of the first row of each group.
    """

    def __init__(self, file: pq.ParquetFile, meta: dict[str, Any], where: str):
        self._file = file
        self._schema = schema_of(meta)
        self._where = where
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self.starts = [int(n) for n in np.cumsum([0, *counts[:-1]])]

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a group.

        Args:
            group: its number.
            columns: their names.

        Raises:
            DualResError: If they cannot be read (any more).
        """
        return self._fitted(lambda: self._file.read_row_group(group, columns=list(columns)), columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all rows; one of numbers, which are few bytes.

        Args:
            name: of the column.

        Raises:
            DualResError: If it cannot be read (any more).
        """
        return self._fitted(lambda: self._file.read(columns=[name]), [name]).column(name)

    def table(self) -> pa.Table:
        """Everything, thumbnails too: as large in memory as on disk, so for small profiles only."""
        return self._fitted(self._file.read, self._schema.names)

    def _fitted(self, read: Any, columns: Sequence[str]) -> pa.Table:
        try:
            return fitted(read(), self._schema, columns)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise DualResError(f"profile '{self._where}' cannot be read ({error}): profile again.") from None


Rows = TableRows | FileRows


def open_rows(path: Path, meta: dict[str, Any]) -> Rows:
    """The rows of a profile's file.

    Args:
        path: of the Parquet file.
        meta: checked by `check_meta`.

    Returns:
        Rows in memory if the file has one row group, else rows on disk.

    Raises:
        DualResError: If it does not hold what its description says.
    """
    try:
        file = pq.ParquetFile(path)
        if file.num_row_groups <= 1:
            return TableRows(check_table(file.read(), meta, str(path)))
        check_file(file, meta, str(path))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, DualResError):
            raise
        raise DualResError(f"profile '{path}' cannot be read ({error}): profile again.") from None
    return FileRows(file, meta, str(path))


def group_of(rows: Rows, row: int) -> int:
    """The group that a row is in.

    Args:
        rows: all rows.
        row: its number.
    """
    return bisect_right(rows.starts, row) - 1
