"""The endpoints, as a FastAPI application."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dualres_plugin.budget.deadline import Deadline
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.serve import protocol
from dualres_plugin.serve.answers import Found, Problem
from dualres_plugin.serve.intake import Intake
from dualres_plugin.serve.lane import Lane
from dualres_plugin.serve.metrics import CONTENT_TYPE, Metrics
from dualres_plugin.serve.settings import Refused, ServeSettings
from dualres_plugin.serve.worker import Worker, make_deadline

logger = logging.getLogger("dualres")
PACKAGE = "dualres-plugin"
RETRY_SECONDS = 1
Work = Callable[[bytearray, str, int | None], bytes]


def make_app(session: DualResSession, settings: ServeSettings) -> FastAPI:
    """A server's application: `/predict`, the Open Inference Protocol below `/v2`, and `/metrics`.

    Args:
        session: the loaded model.
        settings: limits and name.
    """
    lane = Lane(settings.workers, settings.queue)
    metrics = Metrics(
        lambda: lane.waiting, session.expected_rate, session.controller is not None, settings.p95_ms is not None
    )
    deadline = None if settings.p95_ms is None else make_deadline(session, settings.p95_ms, settings.workers)
    desk = Desk(settings, lane, metrics, deadline)
    worker = Worker(session, settings, metrics, deadline)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        lane.close()

    # The pages of documentation that FastAPI offers load scripts from another server.
    app = FastAPI(
        title=f"DualRes: {settings.name}", version=version(PACKAGE), docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_exception_handler(HTTPException, _no_such_page)

    summary = "Detect in the JPEG or PNG that is the body, or the one part of a form."
    photo = {"schema": {"type": "string", "format": "binary"}}
    body = {"requestBody": {"required": True, "content": {"image/jpeg": photo, "image/png": photo}}}

    @app.post("/predict", summary=summary, responses=_answers(Found), openapi_extra=body)
    async def predict(request: Request) -> Response:
        return await desk.answer(request, "predict", worker.predict)

    @app.get("/metrics", summary="For Prometheus.")
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    _add_protocol(app, settings.name, desk, worker)
    return app


def _add_protocol(app: FastAPI, name: str, desk: Desk, worker: Worker) -> None:
    """The endpoints of the Open Inference Protocol."""

    def known(model: str) -> None:
        if model != name:
            raise HTTPException(404, f"there is no model '{model[:80]}', only '{name}'.")

    @app.get("/v2", summary="What the server is.")
    async def server() -> dict[str, Any]:
        return {"name": "dualres", "version": version(PACKAGE), "extensions": []}

    @app.get("/v2/health/live", summary="Whether the server runs.")
    async def live() -> dict[str, Any]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether it takes photos: it listens only once the model is loaded and warm.")
    async def ready() -> dict[str, Any]:
        return {"ready": True}

    @app.get("/v2/models/{model}", summary="Inputs and outputs.")
    async def metadata(model: str) -> dict[str, Any]:
        known(model)
        return protocol.model_metadata(name)

    @app.get("/v2/models/{model}/ready", summary="Whether the model takes photos.")
    async def model_ready(model: str) -> dict[str, Any]:
        known(model)
        return {"name": name, "ready": True}

    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}

    @app.post(
        "/v2/models/{model}/infer",
        summary="Detect in one photo.",
        responses=_answers(protocol.InferAnswer),
        openapi_extra=body,
    )
    async def infer(model: str, request: Request) -> Response:
        known(model)
        return await desk.answer(request, "infer", worker.infer)


def _answers(good: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """What the description of the API says of an endpoint's answers."""
    return {200: {"model": good}, **{status: {"model": Problem} for status in (400, 408, 413, 415, 422, 500, 503)}}


class Desk:
    """Takes requests in, has them worked on, and answers whatever happens.

    Args:
        settings: limits.
        lane: where the work is done.
        metrics: counts the requests.
        deadline: learns when photos arrive; None is no promise.
    """

    def __init__(self, settings: ServeSettings, lane: Lane, metrics: Metrics, deadline: Deadline | None = None):
        self._settings = settings
        self._deadline = deadline
        self._lane = lane
        self._metrics = metrics
        self._intake = Intake(settings.max_mb)

    async def answer(self, request: Request, endpoint: str, work: Work) -> Response:
        """Answer one request.

        Args:
            request: its body was not read yet.
            endpoint: one of `metrics.ENDPOINTS`.
            work: makes the answer of the body and its content type, in a worker thread.
        """
        started = time.perf_counter()
        try:
            response = Response(await self._worked(request, work), media_type="application/json")
            outcome = "answered"
        except Refused as refusal:
            response, outcome = _refusal(refusal.status, refusal.message), refusal.outcome
        except Exception:  # its text may name files of this machine: it is for the log alone
            logger.exception("a request failed")
            response, outcome = _refusal(500, "the photo could not be worked on; the server's log says why."), "failed"
        self._metrics.request(endpoint, outcome, time.perf_counter() - started)
        return response

    async def _worked(self, request: Request, work: Work) -> bytes:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.timeout
        content_type = request.headers.get("content-type", "")
        async with self._intake.body(request, self._settings.timeout) as body:
            ticket = self._deadline.arrive() if self._deadline else None  # a slow client's own time does not count
            try:
                job = partial(work, body, content_type, ticket)
                return await self._lane.run(job, request.receive, until - loop.time())
            finally:
                if self._deadline and ticket is not None:
                    self._deadline.leave(ticket)


def _refusal(status: int, message: str) -> Response:
    retry = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
    return Response(json.dumps({"error": message}), status, retry, media_type="application/json")


async def _no_such_page(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself, in the form of the protocol."""
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, str(error.detail))
