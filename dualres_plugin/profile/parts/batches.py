"""What a profile in the making has so far: finished batches, each a file, joined into larger ones as they grow many.

`checksums.txt` has a line for each file. It is written before the file takes its name, so a file without a line is one
of an older version, and one that does not fit its line is damaged and made again. Processes that write to one folder
have such a list each.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.profile.schema import SCHEMA, checksum
from dualres_plugin.profile.table import to_table

logger = logging.getLogger("dualres")
CHECKSUMS = "checksums.txt"
Keys = Callable[[int], Sequence[tuple[int, int]]]  # of a batch's number: image id and view of each row it can have
Skipped = list[tuple[int, list[str]]]  # number of a batch, what was left out of it


class Parts:
    """The finished batches of a profile.

    Args:
        folder: where they are kept.
        schema: of the profile.
        most: rows of a joined file, from `group_rows`; that many are joined as soon as they are there.
    """

    def __init__(self, folder: Path, schema: pa.Schema, most: int):
        self.folder = folder
        self.schema = schema
        self.most = most
        self._loose: dict[int, int] = {}  # rows by number of each batch that is not joined yet

    def check(self, numbers: Iterable[int], keys: Keys) -> set[int]:
        """The batches that are done and undamaged; what is damaged goes.

        Args:
            numbers: of the batches that belong here.
            keys: of a batch.

        Returns:
            Their numbers.
        """
        known = read_checksums(self.folder)
        wanted, done = list(numbers), set[int]()
        for path in self.joined():
            found = joined_batches(path, known.get(path.name), self.schema, keys)
            if found is None or done & found or not found <= set(wanted):
                path.unlink()
                continue
            done |= found
        for number in wanted:
            path = part_file(self.folder, number)
            if number in done:
                path.unlink(missing_ok=True)  # a kill came between the joined file and this
            elif part_fits(path, keys(number), known.get(path.name), self.schema):
                self._loose[number] = pq.read_metadata(path).num_rows
        return done | set(self._loose)

    def add(self, number: int, rows: int) -> None:
        """Count a batch that `write_part` wrote; join the loose ones when they are many.

        Args:
            number: of the batch.
            rows: how many it has.
        """
        self._loose[number] = rows
        if sum(self._loose.values()) >= self.most or len(self._loose) >= self.most:
            self.join()

    def join(self) -> None:
        """Join what is loose into one file.

        Raises:
            DualResError: If a part was damaged meanwhile.
        """
        if not self._loose:
            return
        numbers = sorted(self._loose)
        try:
            tables = [pq.read_table(part_file(self.folder, i)) for i in numbers]
            batches = [[i, table.num_rows, _skipped(table.schema)] for i, table in zip(numbers, tables)]
            table = pa.concat_tables([t.cast(self.schema).replace_schema_metadata(None) for t in tables])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(self.folder, error) from None
        schema = self.schema.with_metadata({"batches": json.dumps(batches)})
        with atomic_write(self.folder / f"joined-{numbers[0]:06d}.arrow") as temporary:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                writer.write_table(table.combine_chunks().cast(schema))
            note_checksum(self.folder, f"joined-{numbers[0]:06d}.arrow", temporary)
        for number in numbers:
            part_file(self.folder, number).unlink()
        self._loose = {}

    def joined(self) -> list[Path]:
        """The joined files, in order of their first batch."""
        return sorted(self.folder.glob("joined-*.arrow"))


def part_file(parts: Path, i: int) -> Path:
    """Where a finished batch is kept.

    Args:
        parts: the folder of all of them.
        i: number of the batch.

    Returns:
        Its file.
    """
    return parts / f"batch-{i:06d}.parquet"


def write_part(
    path: Path, rows: list[dict[str, Any]], skipped: list[str], schema: pa.Schema = SCHEMA, notes: str = CHECKSUMS
) -> None:
    """Keep a finished batch; the file appears when it is complete.

    Args:
        path: see `part_file`.
        rows: made by `row_of`.
        skipped: images of the batch that could not be used, in words.
        schema: of the profile.
        notes: name of this process's list of checksums.
    """
    table = to_table(rows, schema).replace_schema_metadata({"skipped": json.dumps(skipped)})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="none")  # short-lived, and photos hardly shrink
        note_checksum(path.parent, path.name, temporary, notes)


def note_checksum(parts: Path, name: str, file: Path, notes: str = CHECKSUMS) -> None:
    """Write a file's checksum down.

    Args:
        parts: the folder of all parts.
        name: that the file will have.
        file: as it is now.
        notes: name of the list.
    """
    with (parts / notes).open("a", encoding="utf-8") as lines:
        lines.write(f"\n{name} {checksum(file)}")  # a line that a kill cut short ends here


def read_checksums(parts: Path) -> dict[str, str]:
    """Checksum by name of a part, as `write_part` noted them; the last line of a part counts.

    Args:
        parts: the folder of all parts.

    Returns:
        Empty if there are none yet.
    """
    lines: list[str] = []
    for notes in sorted(parts.glob("checksums*.txt"), key=lambda path: path.stat().st_mtime_ns):
        lines += notes.read_text(encoding="utf-8", errors="replace").splitlines()
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
        table = pq.read_table(path, columns=None if known is None else ["image_id", "view"])
        _check_keys(table, len(_skipped(file.schema_arrow)), keys)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("part %s is damaged and will be made again (%s)", path.name, error)
        return False
    return True


def joined_batches(path: Path, known: str | None, schema: pa.Schema, keys: Keys | None = None) -> set[int] | None:
    """The batches of a joined file.

    Args:
        path: of the file.
        known: its checksum.
        schema: of the profile.
        keys: of a batch; None takes the file's word.

    Returns:
        Their numbers; None for a file that is damaged or of another profile.
    """
    try:
        if checksum(path) != known:
            raise ValueError("its checksum differs")
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            if not reader.schema.remove_metadata().equals(schema):
                raise ValueError("its columns are others")
            table = reader.read_all().select(["image_id", "view"])
            batches = _batches(reader.schema)
            start = 0
            for number, rows, skipped in batches:
                if keys is not None:
                    _check_keys(table.slice(start, rows), len(skipped), keys(number))
                start += rows
            if start != table.num_rows:
                raise ValueError("its batches do not add up")
        return {number for number, _, _ in batches}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        logger.warning("part %s is damaged and will be made again (%s)", path.name, error)
        return None


def skipped_of(path: Path) -> Skipped:
    """What was left out of the batches of a joined file.

    Args:
        path: of the file.
    """
    with pa.memory_map(str(path)) as source:
        return [(number, skipped) for number, _, skipped in _batches(pa.ipc.open_file(source).schema)]


def _batches(schema: pa.Schema) -> list[tuple[int, int, list[str]]]:
    return [
        (int(number), int(rows), list(skipped)) for number, rows, skipped in json.loads(schema.metadata[b"batches"])
    ]


def _check_keys(table: pa.Table, skipped: int, keys: Sequence[tuple[int, int]]) -> None:
    found = list(zip(table.column("image_id").to_pylist(), table.column("view").to_pylist()))
    if not set(found) <= set(keys) or len(found) + skipped != len(keys):
        raise ValueError("it belongs to another batch")


def _skipped(schema: pa.Schema) -> list[str]:
    skipped: list[str] = json.loads((schema.metadata or {}).get(b"skipped", b"[]"))
    return skipped


def _unreadable(parts: Path, error: Exception) -> DualResError:
    return DualResError(f"a part in '{parts}' cannot be read ({error}): run the same command to mend it.")
