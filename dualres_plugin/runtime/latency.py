"""What photos take in a session at each size, one after the other."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.runtime.session import DualResSession

PHOTOS = 32
ROUNDS = 3


def measure_latency(
    session: DualResSession, source: Any, most: int = PHOTOS, rounds: int = ROUNDS, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Time each photo at each size, from the decoded photo to its boxes.

    The sizes take turns, so that a machine that slows down slows all of them.

    Args:
        session: without a held rate.
        source: of photos, as `iter_source` reads it.
        most: photos that are taken.
        rounds: the median of these counts; one more warms up.
        progress: show a bar.

    Returns:
        (n,) scores, and (n, K) ms at each size, largest first.

    Raises:
        DualResError: If there is no readable photo.
    """
    photos = [image.pixels for image in islice(iter_source(source, on_skip=lambda message: None), most)]
    if not photos:
        raise DualResError(f"source '{source}' holds no readable photo.")
    sizes = range(len(session.sizes))
    times = np.empty((rounds, len(photos), len(sizes)))
    scores = np.empty(len(photos))
    for turn in tqdm(range(-1, rounds), desc="measure", unit="round", disable=not progress, leave=False):
        for number, photo in enumerate(photos):
            for step in sizes:
                started = time.perf_counter()
                (found,) = session.predict(photo, threshold=session.card.only(step))
                times[turn, number, step] = 1000 * (time.perf_counter() - started)
                scores[number] = found.score
    return scores, np.median(times, axis=0)
