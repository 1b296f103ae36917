"""What a worker thread does with a request: decode, detect, write the answer."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

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
    """

    def __init__(self, session: DualResSession, settings: ServeSettings, metrics: Metrics):
        self.session = session
        self.settings = settings
        self.metrics = metrics
        # A session that holds a rate belongs to one stream: its photos pass one at a time.
        self._turn: AbstractContextManager[Any] = nullcontext() if session.controller is None else threading.Lock()

    def predict(self, body: bytearray, content_type: str) -> bytes:
        """The answer of `/predict`, as JSON.

        Args:
            body: a JPEG or PNG, or a form with one.
            content_type: of the body.

        Raises:
            Refused: As of `photos.photo_bytes` and `photos.decode_photo`.
        """
        pixels = decode_photo(photo_bytes(bytes(body), content_type), self.settings.max_mpx)
        result, seconds = self._detect(pixels)
        return found(result, 1000 * seconds).model_dump_json().encode()

    def infer(self, body: bytearray, content_type: str) -> bytes:
        """The answer of the protocol's `infer`, as JSON.

        Args:
            body: an inference request, as JSON.
            content_type: of the body; it does not matter.

        Raises:
            Refused: As of `protocol.read_request` and `protocol.photo_of`.
        """
        request = protocol.read_request(bytes(body))
        result, _ = self._detect(protocol.photo_of(request, self.settings.max_mpx))
        return protocol.answer(result, self.settings.name, request).model_dump_json(exclude_none=True).encode()

    def _detect(self, pixels: np.ndarray) -> tuple[SessionResult, float]:
        with self._turn:
            started = time.perf_counter()
            (result,) = self.session.predict(pixels, conf=self.settings.conf)
            seconds = time.perf_counter() - started
            state = None if self.session.controller is None else self.session.controller.state
            self.metrics.photo(result.route, result.step == 0, seconds, state)
        return result, seconds
