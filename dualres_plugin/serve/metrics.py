"""What Prometheus reads: requests, photos by route, the share at high, drift, times, the queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dualres_plugin.budget.controller import ControllerState
from dualres_plugin.serve.settings import OUTCOMES

ENDPOINTS = ("predict", "infer")
CONTENT_TYPE = CONTENT_TYPE_LATEST
RECENT = 64  # photos, as the budget controller judges drift
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server.

    Args:
        waiting: gives the length of the queue.
        target: share at high that is expected; None where it is not known.
        held: whether a controller holds it.
        promised: whether a latency is promised.
    """

    def __init__(self, waiting: Callable[[], int], target: float | None, held: bool, promised: bool = False):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("dualres_requests", "Requests by outcome.", ["endpoint", "outcome"], registry=registry)
        for endpoint in ENDPOINTS:
            for outcome in OUTCOMES:  # those that have not happened are 0, not missing
                self._requests.labels(endpoint, outcome)
        self._seconds = Histogram(
            "dualres_request_seconds", "Of the answered: from the head of a request to its answer.", ["endpoint"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._session = Histogram(
            "dualres_session_seconds", "The detector with its router, on one photo.", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._photos = Counter("dualres_photos", "Photos by route.", ["route"], registry=registry)
        self._share = Gauge("dualres_share_high", f"Share at high of the last {RECENT} photos.", registry=registry)
        Gauge("dualres_queue_length", "Photos that wait for a worker.", registry=registry).set_function(waiting)
        if target is not None:
            Gauge("dualres_share_high_target", "Share at high that is expected.", registry=registry).set(target)
        if held:
            self._drift = Gauge("dualres_drift", "1 while the content drifts (--hold).", registry=registry)
            self._threshold = Gauge("dualres_threshold", "Threshold for the next photo (--hold).", registry=registry)
        if promised:
            self._capped = Counter("dualres_capped", "Photos run smaller to be in time (--p95-ms).", registry=registry)
            self._late = Counter("dualres_late", "Answers later than promised (--p95-ms).", registry=registry)
        self._lock = threading.Lock()
        self._recent: deque[bool] = deque(maxlen=RECENT)

    def request(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Count a request.

        Args:
            endpoint: one of `ENDPOINTS`.
            outcome: one of `settings.OUTCOMES`.
            seconds: that it took.
        """
        self._requests.labels(endpoint, outcome).inc()
        if outcome == "answered":  # slow clients and full queues would hide how long others wait
            self._seconds.labels(endpoint).observe(seconds)

    def photo(self, route: str, high: bool, seconds: float, state: ControllerState | None) -> None:
        """Count a photo.

        Args:
            route: that it took.
            high: whether that is the largest size.
            seconds: that the session took.
            state: of the controller, after it.
        """
        self._photos.labels(route).inc()
        self._session.labels(route).observe(seconds)
        with self._lock:
            self._recent.append(high)
            self._share.set(sum(self._recent) / len(self._recent))
            if state is not None:
                self._drift.set(state.drifting)
                self._threshold.set(state.threshold)

    def promise(self, capped: bool, late: bool) -> None:
        """Count a photo under a promise.

        Args:
            capped: it ran smaller than its score asks for.
            late: its answer came later than promised.
        """
        self._capped.inc(capped)
        self._late.inc(late)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)
