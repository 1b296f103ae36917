"""One ONNX graph, loaded by onnxruntime or OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.common.card import KEY, Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.runtime.providers import CUDA, Provider, with_options

INSTALL = 'Install it with: pip install "dualres-plugin[export]"'


class OrtGraph:
    """An onnxruntime session."""

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
        cache: Path | str | None = None,
    ):
        try:
            import onnxruntime as ort
        except ImportError:
            raise DualResError(f"running an exported model needs onnxruntime. {INSTALL}") from None
        self.path = path
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Between photos the session resizes, sorts and waits in Python: its threads must not burn the cores meanwhile.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if threads:
            options.intra_op_num_threads = threads
        try:
            self.session = ort.InferenceSession(
                str(path), options, providers=with_options(providers or _best(ort), cache)
            )
        except Exception as error:  # onnxruntime has an exception class per cause, and no common base
            reason = str(error).strip().splitlines()[0][:200]
            raise DualResError(
                f"'{path}' cannot be loaded by onnxruntime: it is damaged, cut short or not an ONNX model ({reason})."
            ) from None

    def card(self) -> Card:
        """The metadata in the file.

        Raises:
            DualResError: If there is none, or it is damaged.
        """
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise DualResError(foreign(self.path))
        return Card.from_json(text, str(self.path))

    def __call__(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        try:
            return list(self.session.run(outputs, inputs))
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:300]
            shapes = ", ".join(f"{name} {inputs[name].shape}" for name in ("images", "thumbnail") if name in inputs)
            raise DualResError(f"'{self.path}' failed on an input {shapes}: {reason}") from None


def foreign(path: Path) -> str:
    """What is said of a graph that is not ours.

    Args:
        path: of the file.
    """
    return f"'{path}' is an ONNX model, but not a DualRes one (no '{KEY}' metadata). Make one with: dualres export"


def _take_thresholds(model: Any, ov: Any) -> None:
    """OpenVINO takes an input with a default for a constant: make those of the router inputs again."""
    for node in model.get_ops():
        name = node.get_friendly_name()
        if name in ("threshold", "thresholds") and node.get_type_name() == "Constant":
            limit = ov.op.Parameter(node.get_output_element_type(0), node.get_output_partial_shape(0))
            limit.output(0).get_tensor().set_names({name})
            node.output(0).replace(limit.output(0))
            model.add_parameters([limit])


def _best(ort: Any) -> list[str]:
    available = ort.get_available_providers()
    wanted = (CUDA, "CPUExecutionProvider")
    return [p for p in wanted if p in available]


class OpenVinoGraph:
    """A compiled OpenVINO model; each call has its own request, so threads do not disturb each other.

    Args:
        path: of the graph.
        threads: for one run; None is the runtime's default.

    Attributes:
        averages: it holds an antialiased resize, which OpenVINO would take for a plain one; it was not compiled then.

    Raises:
        DualResError: If OpenVINO is not installed, or cannot load the graph.
    """

    def __init__(self, path: Path, threads: int | None = None):
        self.path = path
        try:
            import openvino as ov
        except ImportError:
            raise DualResError(
                "engine='openvino' needs OpenVINO. Install it with: pip install \"dualres-plugin[openvino]\""
            ) from None
        # On processors with bfloat16 units OpenVINO would use them unasked, and boxes would move by a tenth of a pixel.
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            core = ov.Core()
            model = core.read_model(str(path))
            self.averages = any(node.get_attributes().get("antialias") for node in model.get_ops())
            framework = ["framework", KEY]  # where OpenVINO keeps what an ONNX file says about itself
            self.text = str(model.get_rt_info(framework).value) if model.has_rt_info(framework) else None
            if self.averages:
                return
            _take_thresholds(model, ov)
            self.model = core.compile_model(model, "CPU", config)
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise DualResError(f"'{path}' cannot be loaded by OpenVINO: {reason}") from None
        self.names = {name for port in self.model.inputs for name in port.get_names()}

    def card(self) -> Card:
        """The metadata in the file.

        Raises:
            DualResError: If there is none, or it is damaged.
        """
        if self.text is None:
            raise DualResError(foreign(self.path))
        return Card.from_json(self.text, str(self.path))

    def __call__(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        given = {k: v for k, v in inputs.items() if k in self.names}
        found = self.model.create_infer_request().infer(given)
        return [np.array(found[name]) for name in outputs]
