"""Images read by threads, ahead of whoever uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.images.sources import OnSkip, iter_source

Read = tuple[list[SourceImage], list[str]]


def read_ahead(paths: Iterable[ImageFile], workers: int, on_skip: OnSkip | None = None) -> Iterator[SourceImage]:
    """What `iter_source` gives for photos, in their order.

    Args:
        paths: of photos.
        workers: threads, each with a photo in work, and one photo waits; 0 reads each when it is asked for.
        on_skip: as of `iter_source`; called in the order of the photos, and by the caller's thread.

    Yields:
        One image at a time, with its name.

    Raises:
        DualResError: As `iter_source`, when it is the photo's turn.
    """
    if not workers:
        yield from iter_source(iter(paths), on_skip)
        return
    pool = ThreadPoolExecutor(workers)
    begun: deque[Future[Read]] = deque()
    try:
        for path in chain(paths, [None] * (workers + 1)):  # the last of them are only waited for
            if path is not None:
                begun.append(pool.submit(_read, path, on_skip is not None))
            if begun and (path is None or len(begun) > workers):
                images, skipped = begun.popleft().result()
                for message in skipped:
                    assert on_skip is not None
                    on_skip(message)
                yield from images
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: ImageFile, may_skip: bool) -> Read:
    skipped: list[str] = []
    return list(iter_source(iter([path]), skipped.append if may_skip else None)), skipped
