"""Thumbnails at a router's input size, read from a profile as they are needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
import torch
from torch import Tensor

from dualres_plugin.common.resize import resize_images
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

IN_MEMORY = 512 * 2**20  # bytes; more is put into a temporary file
AT_ONCE = 512  # thumbnails that are read and shrunk together


class Thumbnails:
    """The thumbnails of some rows, in order by `parts` or any by index.

    A profile is compressed in large groups, so it can only be read in order. The first access by index makes a copy
    that any thumbnail can be read from: in memory where it fits, else in a temporary file.

    Args:
        profile: stores them.
        rows: (n,) row numbers.
        size: side in pixels, at most that of the profile.
    """

    def __init__(self, profile: Profile, rows: np.ndarray, size: int):
        self._profile = profile
        self._rows = rows
        self.size = size
        self._copy: Tensor | None = None
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def parts(self, count: int) -> Iterator[Tensor]:
        """All of them in order.

        Args:
            count: how many at a time.

        Yields:
            (count, 3, S, S) uint8; the last may have fewer.
        """
        for start in range(0, len(self), count):
            yield self._read(self._rows[start : start + count])

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """Any of them.

        Args:
            chosen: (m,) int64, numbers among the rows.

        Returns:
            (m, 3, S, S) uint8.
        """
        if self._copy is None and self._file is None:
            self._make_copy()
        if self._copy is not None:
            return self._copy[chosen]
        assert self._file is not None
        side = 3 * self.size**2
        pixels = np.empty((len(chosen), side), dtype=np.uint8)
        for place, number in enumerate(chosen.tolist()):
            self._file.seek(number * side)
            pixels[place] = np.frombuffer(self._file.read(side), dtype=np.uint8)
        return torch.from_numpy(pixels).view(-1, 3, self.size, self.size)

    def _make_copy(self) -> None:
        if len(self) * 3 * self.size**2 <= IN_MEMORY:
            copy = torch.empty(len(self), 3, self.size, self.size, dtype=torch.uint8)
            for number, part in enumerate(self.parts(AT_ONCE)):
                copy[number * AT_ONCE : number * AT_ONCE + len(part)] = part
            self._copy = copy
            return
        self._file = tempfile.TemporaryFile(prefix="dualres-")  # noqa: SIM115  open as long as this object lives
        for part in self.parts(AT_ONCE):
            self._file.write(part.numpy().tobytes())

    def _read(self, rows: np.ndarray) -> Tensor:
        thumbs = self._profile.thumbnails(rows)
        if thumbs.shape[-1] == self.size:
            return thumbs
        return resize_images(thumbs.float(), (self.size, self.size)).round().clamp(0, 255).byte()


def score_rows(router: ResolutionRouter, thumbs: Thumbnails, rows: np.ndarray) -> Tensor:
    """Scores as a user will get them: no augmentation, the router in evaluation mode.

    Args:
        router: at the size of the thumbnails.
        thumbs: read by index.
        rows: (m,) numbers among them.

    Returns:
        (m,) scores.
    """
    parts = torch.from_numpy(rows).split(AT_ONCE)
    return torch.cat([router.score_thumbnails(thumbs[part]) for part in parts])
