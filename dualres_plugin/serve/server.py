"""Listening: the socket, uvicorn around the application, and connections that ask for nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dualres_plugin.common.errors import DualResError

IDLE_SECONDS = 30.0


class Connection(H11Protocol):
    """uvicorn's connection, dropped when no request has come whole, or is being answered, for `IDLE_SECONDS`.

    uvicorn waits without end for the head of a request, and for the rest of a body that was refused.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As of `asyncio.Protocol`."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._answered: object = None
        self._look = self.loop.call_later(IDLE_SECONDS, self._drop_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """As of `asyncio.Protocol`."""
        self._look.cancel()
        super().connection_lost(exc)

    def _drop_idle(self) -> None:
        request = self.cycle  # the last one whose head has come, or None
        at_work = request is not None and not request.response_complete
        if not at_work and request is self._answered:  # as at the last look
            self.transport.abort()
            return
        self._answered = None if at_work else request
        self._look = self.loop.call_later(IDLE_SECONDS, self._drop_idle)


class Server(uvicorn.Server):
    """uvicorn's server, which says when it listens.

    Args:
        config: of uvicorn.
        ready: called then.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]):
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As of uvicorn; a `DualResError` where two processes have bound one port, and the other was faster."""
        try:
            await super().startup(sockets)
        except OSError as error:
            raise DualResError(f"cannot listen: {error.strerror}. Give another --port.") from None
        if self.started:
            self._ready()


def make_server(app: FastAPI, grace: float, ready: Callable[[], object] = lambda: None) -> Server:
    """A server that is not listening yet: `server.run(sockets=[bind(host, port)])`.

    SIGINT and SIGTERM stop it: it takes no more connections, answers what it has, and raises the signal again.

    Args:
        app: of `make_app`.
        grace: seconds that requests have to end when it is stopped.
        ready: called once it listens.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(grace)),
        log_config=None,  # the command line has set up logging
        access_log=False,
        server_header=False,
    )
    return Server(config, ready)


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which nobody can reach until a server listens on it.

    Args:
        host: name or address.
        port: 0 is any free one.

    Raises:
        DualResError: If there is no such address, or it is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError:
            made.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such name"
        raise DualResError(f"cannot listen on {host}:{port}: {reason}. Give another --host or --port.") from None
    return made
