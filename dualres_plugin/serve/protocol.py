"""The Open Inference Protocol (KServe's version 2): requests and answers in its JSON form.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from dualres_plugin.runtime.result import SessionResult
from dualres_plugin.serve.photos import check_pixels, decode_photo
from dualres_plugin.serve.settings import Refused

INPUT = "image"
OUTPUTS = {
    "boxes": ("FP32", [-1, 4]),
    "scores": ("FP32", [-1]),
    "labels": ("INT64", [-1]),
    "route": ("BYTES", [1]),
    "score": ("FP32", [1]),
}


class Tensor(BaseModel):
    """An input.

    Attributes:
        name: "image".
        datatype: "BYTES" or "UINT8".
        shape: [1] of BYTES, [H, W, 3] or [1, H, W, 3] of UINT8.
        data: of BYTES one string, a JPEG or PNG in base64; of UINT8 the pixels, RGB, flat or nested.
    """

    name: str
    datatype: str
    shape: list[int] = Field(min_length=1, max_length=4)
    data: list[Any]


class Wanted(BaseModel):
    """An output that is asked for."""

    name: str


class InferRequest(BaseModel):
    """The body of an inference request; `parameters` are ignored.

    Attributes:
        id: comes back in the answer.
        inputs: one photo.
        outputs: those wanted; all by default.
    """

    id: str | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=1)
    outputs: list[Wanted] = []


class Output(BaseModel):
    """An output.

    Attributes:
        name, datatype: as of `OUTPUTS`.
        shape: with the number of boxes in it.
        data: flat, row by row.
    """

    name: str
    datatype: str
    shape: list[int]
    data: list[FiniteFloat | int | str]


class InferAnswer(BaseModel):
    """The body of the answer.

    Attributes:
        model_name: of the model.
        id: of the request.
        outputs: those that were asked for.
    """

    model_config = ConfigDict(protected_namespaces=())  # pydantic keeps `model_` for itself; the protocol has it

    model_name: str
    id: str | None = None
    outputs: list[Output]


def read_request(body: bytes) -> InferRequest:
    """Read the body of an inference request.

    Args:
        body: JSON.

    Raises:
        Refused: 400 if it is not JSON, or not as the protocol has it.
    """
    # Photos one pixel wide have five characters a list. An empty list takes thirty times the memory of its two.
    if 5 * (body.count(b"[") + body.count(b"{")) > len(body) + 1000:
        raise Refused(400, "the request is made of lists with next to nothing in them.")
    try:  # pydantic's own reader of JSON takes three times the memory
        request = InferRequest.model_validate(json.loads(body))
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError):
        raise Refused(400, "the body is not JSON that can be read.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, f"{where}: {first['msg']}." if where else f"{first['msg']}.") from None
    unknown = [o.name for o in request.outputs if o.name not in OUTPUTS]
    if unknown:
        raise Refused(400, f"unknown output '{unknown[0][:80]}'; there are {', '.join(OUTPUTS)}.")
    return request


def photo_of(request: InferRequest, max_mpx: float) -> np.ndarray:
    """The photo in a request.

    Args:
        request: as it was read.
        max_mpx: millions of pixels that the photo may have.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        Refused: 400 or 422 if the tensor is not as `Tensor` has it; as of `photos.decode_photo`.
    """
    tensor = request.inputs[0]
    if tensor.name != INPUT:
        raise Refused(400, f"unknown input '{tensor.name[:80]}'; there is '{INPUT}'.")
    if tensor.datatype == "BYTES":
        return decode_photo(_decoded(tensor), max_mpx)
    if tensor.datatype == "UINT8":
        return _pixels(tensor, max_mpx)
    raise Refused(400, f"datatype '{tensor.datatype[:20]}' must be BYTES (a JPEG or PNG in base64) or UINT8 (pixels).")


def _decoded(tensor: Tensor) -> bytes:
    if tensor.shape != [1] or len(tensor.data) != 1 or not isinstance(tensor.data[0], str):
        raise Refused(400, "an input of BYTES has the shape [1], and one string of base64 as data.")
    try:
        return base64.b64decode(tensor.data[0], validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "the data of the input is not base64.") from None


def _pixels(tensor: Tensor, max_mpx: float) -> np.ndarray:
    shape = tensor.shape[1:] if len(tensor.shape) == 4 and tensor.shape[0] == 1 else tensor.shape
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise Refused(422, f"an input of UINT8 has the shape [H, W, 3]; got {tensor.shape}.")
    check_pixels(shape[0], shape[1], max_mpx)
    try:
        values = np.array(tensor.data)
    except (ValueError, OverflowError):
        values = np.array([])
    if values.dtype.kind not in "iu" or values.size != math.prod(shape):
        raise Refused(422, f"the data of the input must be {math.prod(shape)} whole numbers, flat or nested evenly.")
    if values.min() < 0 or values.max() > 255:
        raise Refused(422, "the data of an input of UINT8 lie between 0 and 255.")
    return values.astype(np.uint8).reshape(shape)


def answer(result: SessionResult, name: str, request: InferRequest) -> InferAnswer:
    """The answer to an inference request.

    Args:
        result: of its photo.
        name: of the model.
        request: what was asked for.
    """
    found: dict[str, tuple[list[int], list[Any]]] = {
        "boxes": (list(result.boxes.shape), result.boxes.ravel().tolist()),
        "scores": (list(result.scores.shape), result.scores.tolist()),
        "labels": (list(result.labels.shape), result.labels.tolist()),
        "route": ([1], [result.route]),
        "score": ([1], [result.score]),
    }
    wanted = [output.name for output in request.outputs] or list(OUTPUTS)
    outputs = [Output(name=n, datatype=OUTPUTS[n][0], shape=found[n][0], data=found[n][1]) for n in wanted]
    return InferAnswer(model_name=name, id=request.id, outputs=outputs)


def model_metadata(name: str) -> dict[str, Any]:
    """What the protocol says of a model.

    Args:
        name: of the model.
    """
    outputs = [{"name": n, "datatype": kind, "shape": shape} for n, (kind, shape) in OUTPUTS.items()]
    inputs = [{"name": INPUT, "datatype": "BYTES", "shape": [1]}]
    return {"name": name, "platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs}
