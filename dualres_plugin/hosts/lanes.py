"""Images that wait for others of their route and shape, so that a pass is full; results leave in the images' order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_INSIDE = 4  # batches: images that wait, or whose result waits for an earlier image's


class Lanes(Generic[Item, Result]):
    """Gathers items of one key until a batch is full.

    Memory is bounded: with more than `MOST_INSIDE` batches inside, the lane with the oldest item runs as it is.

    Args:
        run: of up to `size` items of one key, oldest first: a result of each, None where it has none.
        size: of a batch.
    """

    def __init__(self, run: Callable[[list[Item]], Sequence[Result | None]], size: int):
        self.size = size
        self._run = run
        self._lanes: dict[Hashable, list[tuple[int, Item]]] = {}
        self._done: dict[int, Result | None] = {}
        self._came = 0
        self._left = 0  # how many, which is also the number of the oldest inside

    @property
    def inside(self) -> int:
        """How many items wait, for their lane or for an earlier item."""
        return self._came - self._left

    def put(self, key: Hashable, item: Item) -> Iterator[Result]:
        """Let an item wait in its lane.

        Args:
            key: of the lane.
            item: numbered as it comes.

        Yields:
            The results that are next in order, if any.
        """
        lane = self._lanes.setdefault(key, [])
        lane.append((self._came, item))
        self._came += 1
        if len(lane) == self.size:
            yield from self._pass(key)
        while self.inside >= MOST_INSIDE * self.size:
            yield from self._pass(self._oldest())

    def flush(self) -> Iterator[Result]:
        """Run whatever waits; yields the rest of the results."""
        while self._lanes:
            yield from self._pass(self._oldest())

    def _oldest(self) -> Hashable:
        # What came before it has left, so the oldest inside waits in a lane, and is the first there.
        return min(self._lanes, key=lambda key: self._lanes[key][0][0])

    def _pass(self, key: Hashable) -> Iterator[Result]:
        numbers, items = zip(*self._lanes.pop(key))
        self._done.update(zip(numbers, self._run(list(items)), strict=True))
        while self._left in self._done:
            result = self._done.pop(self._left)
            self._left += 1
            if result is not None:
                yield result
