"""Features of many images, on disk where they are more than memory should hold."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import numpy as np

IN_MEMORY = 128 * 2**20  # bytes; more is put into a temporary file
AT_ONCE = 16_384  # rows that are computed with together: sums over more than that may differ in their last bits

# Of a (n,) bool, which rows: their numbers, and their (k, C) float64 features, some at a time and in order.
Reader = Callable[[np.ndarray], Iterator[tuple[np.ndarray, np.ndarray]]]


class Features:
    """(n, C) float32, written once, read in order.

    Args:
        parts: (k, C) float32 each.
    """

    def __init__(self, parts: Iterator[np.ndarray]):
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="dualres-")  # noqa: SIM115  lives on
        self.count, self.width = 0, 0
        for part in parts:
            self.count, self.width = self.count + len(part), part.shape[1]
            self._file.write(np.ascontiguousarray(part, dtype=np.float32).tobytes())

    def read(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some of the rows, as a `Reader` does it.

        Args:
            chosen: (n,) bool.

        Yields:
            (k,) row numbers and (k, C) float64 features.
        """
        for start in range(0, self.count, AT_ONCE):
            here = chosen[start : start + AT_ONCE]
            if here.any():
                self._file.seek(4 * start * self.width)
                raw = np.frombuffer(self._file.read(4 * len(here) * self.width), dtype=np.float32)
                yield start + np.flatnonzero(here), raw.reshape(len(here), self.width)[here].astype(np.float64)

    def moments(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation.

        Args:
            chosen: (n,) bool, the rows that count; at least one.

        Returns:
            (C,) each.
        """
        count = np.count_nonzero(chosen)
        mean = total(x.sum(axis=0) for _, x in self.read(chosen)) / count
        return mean, np.sqrt(total(np.square(x - mean).sum(axis=0) for _, x in self.read(chosen)) / count)

    def standardised(self, mean: np.ndarray, deviation: np.ndarray, rows: np.ndarray) -> Reader:
        """A reader of (x - mean) / deviation of some rows; these are numbered anew.

        Args:
            mean: (C,).
            deviation: (C,) above 0.
            rows: (n,) bool.
        """
        number = np.cumsum(rows) - 1

        def read(chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            wanted = np.zeros(self.count, dtype=bool)
            wanted[np.flatnonzero(rows)[chosen]] = True
            for at, x in self.read(wanted):
                yield number[at], (x - mean) / deviation

        return read


def in_memory(features: np.ndarray) -> Reader:
    """A reader of features that are an array.

    Args:
        features: (n, C) float64.
    """
    return lambda chosen: iter([(np.flatnonzero(chosen), features[chosen])])


def total(parts: Iterator[np.ndarray]) -> np.ndarray:
    """The sum of arrays, of which there is one at least.

    Args:
        parts: of one shape.
    """
    result = next(parts)
    for part in parts:
        result = result + part
    return result
