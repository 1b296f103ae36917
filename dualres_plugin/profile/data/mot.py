"""MOTChallenge folders: people in videos, a folder of frames and a `gt/gt.txt` for each sequence."""

from __future__ import annotations

import configparser
import csv
from pathlib import Path

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data.records import Dataset, LabelledBox, read_text, shown

PERSON = 1  # the id, and MOT's class of pedestrians
LARGEST_PIXEL = 1e7
UNSURE = {2, 7, 8, 12, 13}  # on a vehicle, static, distractor, reflection, crowd: neither right nor wrong
FIELDS = 9  # frame, id, left, top, width, height, to be counted, class, visible share; of MOT15 the last are missing


def is_mot(data: Path) -> bool:
    """Whether a path is a `gt.txt`, a sequence, or a folder of sequences."""
    return data.name == "gt.txt" or (data.is_dir() and bool(_sequences(data)))


def read_mot(data: Path) -> Dataset:
    """Read sequences of MOTChallenge. Pedestrians are of the category "person"; what is not to be counted is ignored.

    Args:
        data: a `gt.txt`, the folder of a sequence, or a folder of such.

    Returns:
        The frames of all sequences.

    Raises:
        DualResError: If a file is no such list, or the frames are missing.
    """
    dataset = Dataset(shown(data.name if data.is_dir() else data.parents[1].name), [], {PERSON: "person"})
    for sequence in [data.absolute().parents[1]] if data.name == "gt.txt" else _sequences(data):
        objects = _objects(dataset, sequence / "gt" / "gt.txt")
        frames = sequence / _image_folder(sequence)
        files = sorted(frames.glob("*.jpg")) + sorted(frames.glob("*.png"))
        if not files:
            raise DualResError(f"sequence '{sequence}' has no frames: '{frames}' holds no .jpg or .png.")
        for path in files:
            if path.stem.isdecimal():
                number = int(path.stem)
                frame_of = (str(sequence.resolve()), number)
                dataset.add(len(dataset.records) + 1, path, None, objects.get(number, []), frame_of)
    return dataset


def _sequences(data: Path) -> list[Path]:
    if (data / "gt" / "gt.txt").is_file():
        return [data]
    return sorted(found.parents[1] for found in data.glob("*/gt/gt.txt"))


def _image_folder(sequence: Path) -> str:
    parser = configparser.ConfigParser()
    if (sequence / "seqinfo.ini").is_file():
        try:
            parser.read_string(read_text(sequence / "seqinfo.ini", "description of a sequence"))
        except configparser.Error as error:
            raise DualResError(f"'{sequence / 'seqinfo.ini'}' is no .ini file: {error}") from None
    return Path(parser.get("Sequence", "imDir", fallback="img1")).name


def _objects(dataset: Dataset, path: Path) -> dict[int, list[LabelledBox]]:
    """Objects by number of their frame."""
    found: dict[int, list[LabelledBox]] = {}
    for place, line in enumerate(csv.reader(read_text(path, "list of objects").splitlines()), 1):
        where = f"line {place} of {path.parents[1].name}"
        try:
            frame, _, left, top, width, height, counts, *more = [float(part) for part in line]
            number, kind = int(frame), int(more[0]) if len(line) >= FIELDS else PERSON
        except (ValueError, OverflowError):
            dataset.drop("lines that are not seven numbers or more", where)
            continue
        if not all(abs(edge) <= LARGEST_PIXEL for edge in (left, top, width, height)):  # False for NaN too
            dataset.drop("boxes that are not four finite numbers", where)
        elif width <= 0 or height <= 0:
            dataset.drop("boxes with zero or negative size", where)
        elif kind == PERSON or kind in UNSURE:
            ignore = kind in UNSURE or not counts
            box = LabelledBox(left, top, left + width, top + height, PERSON, ignore, width * height)
            found.setdefault(number, []).append(box)
    if not found:
        raise DualResError(f"'{path}' holds no objects: a line is frame, id, left, top, width, height, 1, 1, 1.")
    return found
