"""What an exported file says about itself: sizes, names, threshold, and how photos go in and boxes come out.

Read by the runtime, written by the exporter. Neither torch nor a host is imported here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, with_config

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import GATE, Int, Number, PlainDict, Quantiles, checked, shown

FORMAT_VERSION = 1
KEY = "dualres"  # of ONNX's metadata_props
FORMS = ("cond", "resize", "branches", "pair")
CARD_MB = 4.0  # a data set of thousands of classes has long names


def _base_name(name: str) -> str:
    if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
        raise ValueError("must be the name of a file in the same folder")
    return name


def _no_nan(value: float) -> float:
    if value != value:
        raise ValueError("must be a number; infinities are the exact ends")
    return value


Side = Annotated[Int, Field(ge=1, le=65_536)]
Share = Annotated[Number, Field(ge=0, le=1)]
FileName = Annotated[str, Field(max_length=255), AfterValidator(_base_name)]


@with_config(GATE)
@dataclass(frozen=True)
class Preprocess:
    """From a photo to the graph's `images`, as the host does it.

    Attributes:
        kind: "letterbox" (scaled to fit, padded) or "original" (the photo as it is; the graph scales it).
        centre: padding on both sides; else at the bottom right.
        fill: padding colour, RGB in [0, 1].
        multiple: pad only up to the next multiple of this; 0 pads to the full square.
        resample: "cv2" or "pil", whose bilinear filter the host uses.
        rounding: of the scaled photo's sides: "even" (Python's), "up" (halves go up) or "down".
        gain: the factor back: "axis" (one for each side, of the rounded sizes) or "frame" (one, of the whole frame).
    """

    kind: Literal["letterbox", "original"] = "letterbox"
    centre: bool = True
    fill: tuple[Share, Share, Share] = (114 / 255, 114 / 255, 114 / 255)
    multiple: Annotated[Int, Field(ge=0, le=4096)] = 0
    resample: Literal["cv2", "pil"] = "cv2"
    rounding: Literal["even", "up", "down"] = "even"
    gain: Literal["axis", "frame"] = "axis"


@with_config(GATE)
@dataclass(frozen=True)
class Postprocess:
    """From the graph's `detections` to boxes.

    Attributes:
        layout: "anchors" (1, 4 + classes, N) or "rows" (1, N, 6): x0, y0, x1, y1, score, label.
        boxes: "xywh" (centre and size) or "xyxy"; rows are always xyxy.
        nms: whether overlaps are still to be removed.
        conf: default score threshold.
        iou: overlap above which the weaker of two boxes of a class goes.
        max_det: detections per image; a host without a limit writes the largest 32-bit number.
        multi_label: an anchor may give a box for each class above `conf`; else for its best class only.
        offset: distance that NMS puts between the classes, in pixels; 0 is the largest coordinate + 1.
        clip: boxes end at the edge of the "photo" (after NMS), of the "content" or the "frame" (before), or "none".
        candidates: the best so many boxes go into NMS.
        floor: the graph, or the host, gives nothing below this score.
        drop_empty: boxes without width or height do not go into it.
    """

    layout: Literal["anchors", "rows"] = "anchors"
    boxes: Literal["xywh", "xyxy"] = "xywh"
    nms: bool = True
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Annotated[Int, Field(ge=1, le=2**31 - 1)] = 300
    multi_label: bool = False
    offset: Annotated[Number, Field(ge=0)] = 7680.0
    clip: Literal["photo", "content", "frame", "none"] = "photo"
    candidates: Annotated[Int, Field(ge=1, le=100_000_000)] = 30000
    floor: Share = 0.0
    drop_empty: bool = False


@with_config(GATE)
@dataclass(frozen=True)
class Card:
    """The metadata of an exported model.

    Attributes:
        form: "cond", "resize", "branches" or "pair".
        host: the ecosystem that the detector comes from.
        high: high size in pixels.
        scale: low / high ratio.
        stride: sizes are multiples of it.
        static: (height, width) that the graph is fixed to; None where any size will do.
        low: (height, width) of the low input that belongs to `static`.
        threshold: default of the input of that name.
        quantiles: of the scores on the router's calibration images, 0 to 100 %; empty without calibration.
        names: label -> class name.
        version: of dualres-plugin.
        files: of a pair: "router", "high", "low" -> file name beside the manifest.
        checksums: of a pair: file name -> SHA-256; empty in pairs of older versions.
        parity: what the check at export found.
    """

    form: Annotated[str, Field(pattern=f"^({'|'.join(FORMS)})$")]
    host: Annotated[str, Field(max_length=100)]
    high: Side
    scale: Annotated[Number, Field(gt=0, lt=1)]
    stride: Annotated[Int, Field(ge=1, le=4096)]
    threshold: Annotated[float, Field(allow_inf_nan=True), AfterValidator(_no_nan)]
    version: Annotated[str, Field(max_length=100)]
    preprocess: Preprocess
    postprocess: Postprocess
    static: tuple[Side, Side] | None = None
    low: tuple[Side, Side] | None = None
    quantiles: Quantiles = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    files: dict[str, FileName] = field(default_factory=dict)
    checksums: dict[FileName, str] = field(default_factory=dict)
    parity: PlainDict = field(default_factory=dict)

    def to_json(self) -> str:
        """JSON text; an infinite threshold becomes the string that Python's `float` reads."""
        values = {"format_version": FORMAT_VERSION, "kind": "dualres-model", **asdict(self)}
        return json.dumps({**values, "threshold": str(float(self.threshold))}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> Card:
        """Read what `to_json` wrote.

        Args:
            text: the JSON.
            where: the file that it comes from, for messages.

        Raises:
            DualResError: If it is damaged, or of another version.
        """
        if len(text) > CARD_MB * 1e6:
            raise DualResError(f"the metadata of '{where}' has {len(text) / 1e6:.0f} MB, more than {CARD_MB:g}.")
        try:
            values: Any = json.loads(text)
            known = isinstance(values, dict) and values.pop("kind", None) == "dualres-model"
        except (ValueError, RecursionError) as error:
            raise DualResError(f"the metadata of '{where}' is damaged ({error}). Export the model again.") from None
        if not known:
            raise DualResError(f"'{where}' does not describe a DualRes model. Make one with: dualres export")
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise DualResError(
                f"'{where}' has format version {shown(version)}, this dualres-plugin reads version {FORMAT_VERSION}. "
                "Update the package, or export the model again."
            )
        edited = f"the metadata of '{where}' is incomplete or edited"
        lost = sorted(cls.__dataclass_fields__.keys() - values.keys() - {"checksums"})
        if lost:
            raise DualResError(f"{edited}: it lacks {', '.join(lost)}.")
        return checked(cls, values, edited)
