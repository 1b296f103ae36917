"""Sketches of frames, a few hundred numbers each: whether two show the same scene, and whether anything stirs in it."""

from __future__ import annotations

import numpy as np

GRID = (18, 32)  # rows and columns
SAMPLES = 4  # pixels of a cell that are looked at, along each axis
CUT = 0.5  # correlation of two sketches below which they show different scenes
BLANK = 1e-3  # spread of a sketch without content, such as a black frame


def stride(height: int, width: int) -> int:
    """How far apart the pixels lie that a sketch looks at, along each axis."""
    return max(1, min(height // (SAMPLES * GRID[0]), width // (SAMPLES * GRID[1])))


def sketch(pixels: np.ndarray) -> np.ndarray:
    """A frame in grey, tiny.

    Args:
        pixels: (H, W, 3) RGB, uint8 or float in [0, 1].

    Returns:
        (18, 32) float32 in [0, 1].
    """
    step = stride(*pixels.shape[:2])
    grey = pixels[::step, ::step].astype(np.float32).mean(axis=2)
    if pixels.dtype == np.uint8:
        grey /= 255
    rows, columns = (np.arange(count) * length // count for count, length in zip(GRID, grey.shape))
    if grey.shape[0] < GRID[0] or grey.shape[1] < GRID[1]:  # smaller than its sketch
        return np.ascontiguousarray(grey[np.ix_(rows, columns)])
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff(rows, append=grey.shape[0]), np.diff(columns, append=grey.shape[1]))
    return np.asarray(sums / counts, dtype=np.float32)


def change(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two sketches, 0 to 1."""
    return float(np.abs(a - b).mean())


def stir(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of a cell of two sketches, 0 to 1: what is small and comes in changes a cell, not the mean."""
    return float(np.abs(a - b).max())


def is_cut(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the scene changes between two sketches: by their correlation, which a lamp or a cloud does not change.

    Args:
        a, b: (18, 32) each.
    """
    x, y = a - a.mean(), b - b.mean()
    spread = np.sqrt((x * x).mean()), np.sqrt((y * y).mean())
    if min(spread) < BLANK:
        return max(spread) >= BLANK or change(a, b) > 0.1
    return float((x * y).mean() / (spread[0] * spread[1])) < CUT
