"""Reading bodies: bounded one by one, all together, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from dualres_plugin.serve.settings import GONE, Refused

ROOM = 10  # bodies of the largest size that are held at once; small and slow ones take only what has come of them


class Intake:
    """What all requests hold in memory of their bodies.

    Args:
        max_mb: of one body, in MB.
    """

    def __init__(self, max_mb: float):
        self.max_mb = max_mb
        self._most = int(max_mb * 1e6)
        self.held = 0

    @asynccontextmanager
    async def body(self, request: Request, seconds: float) -> AsyncIterator[bytearray]:
        """The body of a request, for as long as the block runs.

        Args:
            request: nothing of its body was read yet.
            seconds: that it may take.

        Yields:
            All of it.

        Raises:
            Refused: 413 if it is too large, 408 too slow, 400 empty, 503 if all bodies together are too large, or
                499 if the client has left.
        """
        stated = request.headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > self._most:
            raise self._too_large()
        body = bytearray()
        try:
            await self._in_time(request, body, seconds)
            yield body
        finally:
            self.held -= len(body)

    async def _in_time(self, request: Request, body: bytearray, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._read(request, body), seconds)
        except asyncio.TimeoutError:
            raise Refused(408, f"the body did not arrive within {seconds:g} seconds.") from None
        except ClientDisconnect:
            raise Refused(GONE, "the client has left.") from None
        if not body:
            raise Refused(400, "the body is empty.")

    async def _read(self, request: Request, body: bytearray) -> None:
        async for part in request.stream():
            if len(body) + len(part) > self._most:
                raise self._too_large()
            if self.held + len(part) > ROOM * self._most:
                raise Refused(503, "too many large bodies at once: try again later.")
            body += part
            self.held += len(part)

    def _too_large(self) -> Refused:
        return Refused(413, f"the body has more than the {self.max_mb:g} MB that one may have.")
