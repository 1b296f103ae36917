"""What a data set holds once it is read: records, and what was left out of them with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.images.decode import UnreadableImageError, image_size

LONGEST_SHOWN = 120  # characters of a name or a reason in a message
LARGEST_TEXT = 32 * 2**20  # bytes of a data.yaml, a label file or a list; a list of a million paths has fewer


class LabelledBox(NamedTuple):
    """One object of an image as it was read.

    Attributes:
        x0: left edge in pixels.
        y0: upper edge.
        x1: right edge.
        y1: lower edge.
        category: the dataset's category id.
        ignore: COCO's `iscrowd`.
        area: of the object in square pixels.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    category: int
    ignore: bool
    area: float


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset and its ground truth.

    Attributes:
        id: the dataset's own image id.
        path: the file, or what else its photo is read from.
        size: (height, width) that the boxes refer to.
        boxes: (N, 4) float32 xyxy in pixels.
        categories: (N,) int64, the dataset's category ids.
        ignore: (N,) bool, COCO's `iscrowd`.
        area: (N,) float32 object areas in pixels, for AP by size.
        clip: the clip that it is a frame of, as a path or a name; "" of a photo.
        frame: its number there.
    """

    id: int
    path: ImageFile
    size: tuple[int, int]
    boxes: np.ndarray
    categories: np.ndarray
    ignore: np.ndarray
    area: np.ndarray
    clip: str = ""
    frame: int = 0


@dataclass
class Dataset:
    """Records plus what was left out while reading them.

    Attributes:
        name: for people.
        records: the usable images.
        categories: name by category id; empty without labels.
        labelled: False for a plain folder.
        dropped: how often each kind of bad entry was left out.
        examples: the first of each kind.
    """

    name: str
    records: list[ImageRecord]
    categories: dict[int, str] = field(default_factory=dict)
    labelled: bool = True
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def drop(self, kind: str, example: str) -> None:
        """Count something that is left out.

        Args:
            kind: of entry, in words.
            example: where this one stands.
        """
        self.dropped[kind] += 1
        self.examples.setdefault(kind, shown(example))

    def warnings(self) -> list[str]:
        """What was left out.

        Returns:
            A line for each kind of entry.
        """
        return [f"{n} {kind} left out (first: {self.examples[kind]})" for kind, n in self.dropped.items()]

    @property
    def clips(self) -> bool:
        """Whether its images are frames of clips."""
        return bool(self.records) and all(record.clip for record in self.records)

    def add(
        self,
        image_id: int,
        path: ImageFile,
        size: tuple[int, int] | None,
        objects: Sequence[LabelledBox],
        frame_of: tuple[str, int] = ("", 0),
    ) -> None:
        """Keep an image, or leave it out if its file is not there or cannot be read.

        Args:
            image_id: its number.
            path: the file.
            size: (height, width) that its annotation states; None reads it from the file.
            objects: what it shows.
            frame_of: the clip that it is a frame of, and its number there.
        """
        if isinstance(path, Path) and not is_file(path):
            self.drop("images that are not in the folder", path.name)
            return
        if not _is_text(str(path)):
            self.drop("images whose path is not valid Unicode", path.name)
            return
        if size is None:
            try:
                size = image_size(path)
            except UnreadableImageError as error:
                self.drop("unreadable images", str(error))
                return
        self.records.append(
            ImageRecord(
                image_id,
                path,
                size,
                boxes=np.array([o[:4] for o in objects], dtype=np.float32).reshape(-1, 4),
                categories=np.array([o.category for o in objects], dtype=np.int64),
                ignore=np.array([o.ignore for o in objects], dtype=bool),
                area=np.array([o.area for o in objects], dtype=np.float32),
                clip=frame_of[0],
                frame=frame_of[1],
            )
        )


def shown(text: str) -> str:
    """Text of a stranger's file as part of a message: on one line, printable, not too long.

    Args:
        text: anything.

    Returns:
        The same text where it was fit to print.
    """
    cut = text if len(text) <= LONGEST_SHOWN * 4 else f"{text[: LONGEST_SHOWN * 4]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def is_file(path: Path) -> bool:
    """Whether a path is a file; one that the file system cannot even name is none.

    Args:
        path: of any length, with any characters.
    """
    try:
        return path.is_file()
    except OSError:  # longer than a name may be, or in a folder that nobody may enter
        return False


def read_text(path: Path, what: str) -> str:
    """A small text file.

    Args:
        path: of the file.
        what: names it in messages.

    Raises:
        DualResError: If it is missing, no text, or too large to be one of these.
    """
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise DualResError(f"{what} '{shown(str(path))}' has more than {LARGEST_TEXT >> 20} MB: is that the file?")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DualResError(f"{what} '{shown(str(path))}' does not exist.") from None
    except UnicodeDecodeError:
        raise DualResError(f"{what} '{shown(str(path))}' is not a text file (UTF-8).") from None
    except OSError as error:
        raise DualResError(f"cannot read {what} '{shown(str(path))}': {error.strerror}.") from None


def _is_text(name: str) -> bool:
    """False for names with bytes that are no UTF-8: no table or JSON can hold them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
