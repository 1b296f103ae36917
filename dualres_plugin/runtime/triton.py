"""An exported detector inside Triton Inference Server.

Ensembles of Triton cannot branch, so a model of its Python backend does (BLS): it has the photo scored by the router's
model, and then run by the model of one size. Both are graphs that Triton itself runs. All around that, from photo to
boxes, is `DualResSession`. `dualres export --form triton` writes the repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget.ladder import step_of
from dualres_plugin.common.card import Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.runtime.engines import MANIFEST, ROUTER, PairEngine
from dualres_plugin.runtime.result import SessionResult
from dualres_plugin.runtime.session import DualResSession

NUMBERS = ("threshold", "target_high_rate")  # parameters of a model's configuration, as of `DualResSession`
THRESHOLDS = ("threshold", "thresholds")  # of the router's graph in a pair: one of them
LISTS = ("thresholds", "shares")


class TritonGraph:
    """A model of the same server, called as if it were a graph of this process.

    Args:
        model: its name.
        backend: `triton_python_backend_utils`, which exists in Triton only.
    """

    def __init__(self, model: str, backend: Any):
        self.model = model
        self.backend = backend

    def __call__(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        pb = self.backend
        request = pb.InferenceRequest(
            model_name=self.model,
            requested_output_names=outputs,
            inputs=[pb.Tensor(name, value) for name, value in inputs.items()],
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU),
        )
        response = request.exec()
        if response.has_error():
            raise DualResError(f"model '{self.model}' failed: {response.error().message()}")
        return [np.asarray(pb.get_output_tensor_by_name(response, name).as_numpy()) for name in outputs]


class TritonRouter(TritonGraph):
    """The router's model, which gives the score alone; the thresholds are met here."""

    def __call__(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        limits = np.concatenate([inputs[name].reshape(-1) for name in THRESHOLDS if name in inputs]).tolist()
        given = {name: value for name, value in inputs.items() if name not in THRESHOLDS}
        (score,) = super().__call__(given, ["score"])
        step = step_of(float(score[0]), limits)
        return [np.array([step == 0 if outputs[0] == "route" else step]), score]


class TritonPythonModel:
    """What Triton's Python backend makes one of for each instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the model's metadata.

        Args:
            args: of Triton: the folder of the model, its version and its configuration.
        """
        import triton_python_backend_utils as pb

        self.backend = pb
        name = args["model_name"]
        folder = Path(args["model_repository"], args["model_version"])
        card = Card.from_json((folder / MANIFEST).read_text(encoding="utf-8"), MANIFEST)
        graphs: dict[str, Any] = {route: TritonGraph(f"{name}_{route}", pb) for route in card.routes}
        graphs[ROUTER] = TritonRouter(f"{name}_{ROUTER}", pb)
        asked = _asked(json.loads(args["model_config"]).get("parameters", {}))
        self.session = DualResSession(PairEngine(card, graphs), warm_up=False, **asked)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, one after the other.

        Args:
            requests: each with `image`, (H, W, 3) RGB uint8.

        Returns:
            A response for each, with boxes or with an error.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        pb = self.backend
        try:
            photo = pb.get_input_tensor_by_name(request, "image").as_numpy()
            (result,) = self.session.predict(photo)
        except DualResError as error:
            return pb.InferenceResponse(error=pb.TritonError(str(error)))
        tensors = tensors_of(result)
        wanted = set(request.requested_output_names()) or set(tensors)
        return pb.InferenceResponse([pb.Tensor(name, value) for name, value in tensors.items() if name in wanted])


def tensors_of(result: SessionResult) -> dict[str, np.ndarray]:
    """A result as the tensors that Triton answers, the same as `dualres serve` does.

    Args:
        result: of a session.

    Returns:
        `boxes` (N, 4), `scores` (N,), `labels` (N,), `route` (1,) and `score` (1,).
    """
    return {
        "boxes": np.asarray(result.boxes, dtype=np.float32).reshape(-1, 4),
        "scores": np.asarray(result.scores, dtype=np.float32),
        "labels": np.asarray(result.labels, dtype=np.int64),
        "route": np.array([result.route.encode()], dtype=np.object_),
        "score": np.array([result.score], dtype=np.float32),
    }


def _asked(parameters: dict[str, Any]) -> dict[str, Any]:
    """The operating point in a model's configuration: `parameters { key: "target_high_rate" value: {…"0.3"} }`."""
    given = {key: str(value["string_value"]) for key, value in parameters.items() if key in (*NUMBERS, *LISTS)}
    try:
        return {
            key: float(text) if key in NUMBERS else tuple(float(part) for part in text.split(","))
            for key, text in given.items()
        }
    except ValueError:
        raise DualResError(f"the parameters of the model must be numbers: {given}.") from None
