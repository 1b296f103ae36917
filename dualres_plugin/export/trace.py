"""PyTorch modules to ONNX graphs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.modes import in_eval
from dualres_plugin.export.graph import OPSET, as_weights, require_onnx


def trace(module: nn.Module, shape: tuple[int, int], dynamic: bool, what: str) -> Any:
    """A GraphProto of a module (1, 3, H, W) -> one tensor.

    Torch's tracing exporter is used, as the hosts' own exporters do: it folds batch norms and writes no source
    positions, and one trace with dynamic height and width serves both sizes.

    Args:
        shape: (height, width) to trace with.
        dynamic: leave height and width open.
        what: for messages.

    Raises:
        DualResError: If the module cannot be traced.
    """
    onnx = require_onnx()
    axes = {"images": {2: "height", 3: "width"}} if dynamic else None
    blank = torch.zeros(1, 3, *shape, device=next(module.parameters()).device)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about Python numbers that stay constant
        file = Path(folder, "traced.onnx")
        level = logging.getLogger("torch.onnx").level
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            with in_eval(module), torch.no_grad():
                torch.onnx.export(
                    module, (blank,), str(file), dynamo=False, opset_version=OPSET, dynamic_axes=axes,
                    input_names=["images"], output_names=["found"],
                )  # fmt: skip
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise DualResError(f"{what} cannot be traced for ONNX: {' '.join(reason[:2])[:300]}") from error
        finally:
            logging.getLogger("torch.onnx").setLevel(level)
        graph = onnx.load(str(file)).graph
    as_weights(graph)
    return graph


def read_graph(path: Path | str) -> Any:
    """The GraphProto of an ONNX file that a host's own exporter wrote.

    Args:
        path: the file.
    """
    model = require_onnx().load(str(path))
    as_weights(model.graph)
    return model.graph
