"""What a worker thread does with a request: decode, detect, write the answer."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any

import numpy as np

from dualres_plugin.budget.deadline import Deadline
from dualres_plugin.budget.ladder import step_of
from dualres_plugin.runtime.latency import measure_latency
from dualres_plugin.runtime.result import SessionResult
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.serve import protocol
from dualres_plugin.serve.answers import found
from dualres_plugin.serve.metrics import Metrics
from dualres_plugin.serve.photos import decode_photo, photo_bytes
from dualres_plugin.serve.settings import ServeSettings


class Worker:
    """Answers requests with a session. Threads share it.

    Args:
        session: the loaded model, with its threshold or held rate.
        settings: limits, and the score that detections need.
        metrics: counts the photos.
        deadline: says how large a photo may run; None is no promise.
    """

    def __init__(
        self, session: DualResSession, settings: ServeSettings, metrics: Metrics, deadline: Deadline | None = None
    ):
        self.deadline = deadline
        self.session = session
        self.settings = settings
        self.metrics = metrics
        # A session that holds a rate belongs to one stream: its photos pass one at a time.
        self._turn: AbstractContextManager[Any] = nullcontext() if session.controller is None else threading.Lock()

    def predict(self, body: bytearray, content_type: str, ticket: int | None = None) -> bytes:
        """The answer of `/predict`, as JSON.

        Args:
            body: a JPEG or PNG, or a form with one.
            content_type: of the body.
            ticket: of the deadline.

        Raises:
            Refused: As of `photos.photo_bytes` and `photos.decode_photo`.
        """
        pixels = decode_photo(photo_bytes(bytes(body), content_type), self.settings.max_mpx)
        result, seconds = self._detect(pixels, ticket)
        return found(result, 1000 * seconds).model_dump_json().encode()

    def infer(self, body: bytearray, content_type: str, ticket: int | None = None) -> bytes:
        """The answer of the protocol's `infer`, as JSON.

        Args:
            body: an inference request, as JSON.
            content_type: of the body; it does not matter.
            ticket: of the deadline.

        Raises:
            Refused: As of `protocol.read_request` and `protocol.photo_of`.
        """
        request = protocol.read_request(bytes(body))
        result, _ = self._detect(protocol.photo_of(request, self.settings.max_mpx), ticket)
        return protocol.answer(result, self.settings.name, request).model_dump_json(exclude_none=True).encode()

    def _detect(self, pixels: np.ndarray, ticket: int | None) -> tuple[SessionResult, float]:
        with self._turn:
            largest = 0 if self.deadline is None or ticket is None else self.deadline.turn(ticket)
            started = time.perf_counter()
            (result,) = self.session.predict(pixels, conf=self.settings.conf, threshold=self._not_above(largest))
            seconds = time.perf_counter() - started
            state = None if self.session.controller is None else self.session.controller.state
            self.metrics.photo(result.route, result.step == 0, seconds, state)
        if self.deadline is not None and ticket is not None:
            late = self.deadline.done(ticket, result.step, 1000 * seconds)
            self.metrics.promise(step_of(result.score, self.session.thresholds) < largest, late)
        return result, seconds

    def _not_above(self, largest: int) -> tuple[float, ...] | None:
        """The session's thresholds, with none that leads to a size above this one."""
        return (inf,) * largest + self.session.thresholds[largest:] if largest else None


def make_deadline(session: DualResSession, p95_ms: float, workers: int) -> Deadline:
    """A server's promise, with what each size takes on this machine.

    Args:
        session: the loaded model.
        p95_ms: ms from a photo's arrival to its answer.
        workers: photos that run at once.

    Raises:
        DualResError: If the smallest size alone takes longer.
    """
    side = session.card.high
    _, times = measure_latency(session, np.zeros((side, side, 3), dtype=np.uint8), progress=False)
    return Deadline(p95_ms, times[0].tolist(), workers)
