"""What a server is told, and what it says no with."""

from __future__ import annotations

from dataclasses import dataclass

GONE = 499  # nobody is there to read it; the status is for the metrics
OUTCOMES = ("answered", "refused", "busy", "gone", "failed")


@dataclass(frozen=True)
class ServeSettings:
    """The limits of a server.

    Attributes:
        name: of the model, in the paths of the protocol.
        conf: detections up to this score are left out; None is the default of the file.
        workers: photos worked on at once: while the graph runs one, others are decoded.
        queue: photos that may wait for a worker; more are refused.
        timeout: seconds that a request may take, from the first byte of its body to its answer.
        max_mb: of one body, in MB.
        max_mpx: of one photo, in millions of pixels.
        p95_ms: ms from a photo's arrival to its answer that 95 of 100 are to keep; None is no promise.
    """

    name: str
    conf: float | None = None
    workers: int = 2
    queue: int = 32
    timeout: float = 30.0
    max_mb: float = 20.0
    max_mpx: float = 50.0
    p95_ms: float | None = None


class Refused(Exception):
    """A request that is not answered with detections.

    Args:
        status: of HTTP.
        message: for the client: what is wrong, and what to do. Nothing else of an error ever reaches a client.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`, for the metrics."""
        if self.status == GONE:
            return "gone"
        return "busy" if self.status == 503 else "failed" if self.status == 500 else "refused"
