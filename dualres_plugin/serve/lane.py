"""The workers and the bounded queue in front of them: nothing that takes long runs on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.types import Receive

from dualres_plugin.serve.settings import GONE, Refused

Answer = TypeVar("Answer")


class Lane:
    """Threads, and a queue of a bounded length.

    Args:
        workers: threads.
        queue: requests that may wait for one.
    """

    def __init__(self, workers: int, queue: int):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="dualres-serve")
        self._workers, self._most = workers, workers + queue
        self._lock = threading.Lock()
        self._inside = 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return max(0, self._inside - self._workers)

    async def run(self, work: Callable[[], Answer], receive: Receive, seconds: float) -> Answer:
        """Run work in a thread.

        Args:
            work: what the thread calls.
            receive: of the request, whose body was read: it says when the client leaves.
            seconds: to wait for the answer. Work that has not begun by then, or by the time the client leaves, never
                does; what runs cannot be stopped, and keeps its place until it ends.

        Returns:
            What `work` returns.

        Raises:
            Refused: 503 if the queue is full or the time is over, 499 if the client has left; what `work` raises.
        """
        future = self._submit(work)
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_left(receive))
        either: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise Refused(GONE, "the client has left.")
            raise Refused(503, "the photo was not reached in time: try again later.")
        finally:
            future.cancel()  # at once: asyncio's own is handed on a step later, when the answer is already out
            answer.cancel()
            gone.cancel()

    def _submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        with self._lock:
            if self._inside >= self._most:
                raise Refused(503, "the queue is full: try again later.")
            self._inside += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._out)  # of cancelled ones, too
        return future

    def _out(self, _: object) -> None:
        with self._lock:
            self._inside -= 1

    def close(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
