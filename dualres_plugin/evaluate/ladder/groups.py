"""Photos that belong together, such as the frames of one video: they are drawn, and held out, together."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.csv import plain
from dualres_plugin.profile.table import Profile

COLUMNS = ("file_name", "group")
FOLDER = "folder"


def read_groups(source: str, profile: Profile) -> np.ndarray:
    """The group of each original image of a profile.

    Args:
        source: "folder" for the folder that a photo lies in, or a CSV file with the columns `file_name` and `group`. A
            file name is the end of a photo's path: `0001.jpg`, or `clip1/0001.jpg` where names repeat.
        profile: holds the photos' paths.

    Returns:
        (n,) number of the group of each image.

    Raises:
        DualResError: If the file cannot be read, names a photo twice, or misses one; or if all is one group.
    """
    paths = [profile.image_path(int(row)) for row in profile.originals]
    if source == FOLDER:
        names = [str(path.parent) for path in paths]
    else:
        table = _read(Path(source))
        names = [_group(path, table, source) for path in paths]
    groups = np.unique(names, return_inverse=True)[1]
    if len(paths) > 1 and groups.max() == 0:
        raise DualResError(f"--groups {source}: all {len(paths)} images are one group; an interval needs at least two.")
    return groups


def _read(path: Path) -> dict[tuple[str, ...], str]:
    """Parts of a file name -> group."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DualResError(f"--groups {path}: cannot be read ({error}); give a CSV file, or the word folder.") from None
    found: dict[tuple[str, ...], str] = {}
    for number, row in enumerate(rows, 2):
        name, group = (row.get(column) for column in COLUMNS)
        if not name or not group:
            raise DualResError(f"--groups {path}, line {number}: each needs a {COLUMNS[0]} and a {COLUMNS[1]}.")
        parts = Path(plain(name)).parts
        if found.setdefault(parts, group) != group:
            raise DualResError(f"--groups {path}, line {number}: '{name}' is in two groups.")
    return found


def _group(path: Path, table: dict[tuple[str, ...], str], source: str) -> str:
    """Of the longest file name that a path ends with."""
    for first in range(len(path.parts)):
        if path.parts[first:] in table:
            return table[path.parts[first:]]
    raise DualResError(f"--groups {source} has no line for '{path.name}': every image of the profile needs one.")
