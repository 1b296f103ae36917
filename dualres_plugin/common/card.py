"""What an exported file says about itself: sizes, names, threshold, and how photos go in and boxes come out.

Read by the runtime, written by the exporter. Neither torch nor a host is imported here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from dualres_plugin.common.errors import DualResError

FORMAT_VERSION = 1
KEY = "dualres"  # of ONNX's metadata_props
FORMS = ("cond", "resize", "branches", "pair")


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

    kind: str = "letterbox"
    centre: bool = True
    fill: tuple[float, float, float] = (114 / 255, 114 / 255, 114 / 255)
    multiple: int = 0
    resample: str = "cv2"
    rounding: str = "even"
    gain: str = "axis"


@dataclass(frozen=True)
class Postprocess:
    """From the graph's `detections` to boxes.

    Attributes:
        layout: "anchors" (1, 4 + classes, N) or "rows" (1, N, 6): x0, y0, x1, y1, score, label.
        boxes: "xywh" (centre and size) or "xyxy"; rows are always xyxy.
        nms: whether overlaps are still to be removed.
        conf: default score threshold.
        iou: overlap above which the weaker of two boxes of a class goes.
        max_det: detections per image.
        multi_label: an anchor may give a box for each class above `conf`; else for its best class only.
        offset: distance that NMS puts between the classes, in pixels; 0 is the largest coordinate + 1.
        clip: boxes end at the edge of the "photo" (after NMS), of the "content" or the "frame" (before), or "none".
        candidates: the best so many boxes go into NMS.
        floor: the graph, or the host, gives nothing below this score.
        drop_empty: boxes without width or height do not go into it.
    """

    layout: str = "anchors"
    boxes: str = "xywh"
    nms: bool = True
    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    multi_label: bool = False
    offset: float = 7680.0
    clip: str = "photo"
    candidates: int = 30000
    floor: float = 0.0
    drop_empty: bool = False


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
        parity: what the check at export found.
    """

    form: str
    host: str
    high: int
    scale: float
    stride: int
    threshold: float
    version: str
    preprocess: Preprocess
    postprocess: Postprocess
    static: tuple[int, int] | None = None
    low: tuple[int, int] | None = None
    quantiles: list[float] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    parity: dict[str, float] = field(default_factory=dict)

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
        try:
            values: Any = json.loads(text)
            known = isinstance(values, dict) and values.pop("kind", None) == "dualres-model"
        except ValueError as error:
            raise DualResError(f"the metadata of '{where}' is damaged ({error}). Export the model again.") from None
        if not known:
            raise DualResError(f"'{where}' does not describe a DualRes model. Make one with: dualres export")
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise DualResError(
                f"'{where}' has format version {version!r}, this dualres-plugin reads version {FORMAT_VERSION}. "
                "Update the package, or export the model again."
            )
        try:
            pre, post = values.pop("preprocess"), values.pop("postprocess")
            return cls(
                preprocess=Preprocess(**{**pre, "fill": tuple(pre["fill"])}),
                postprocess=Postprocess(**post),
                threshold=float(values.pop("threshold")),
                names={int(k): str(v) for k, v in values.pop("names").items()},
                static=_pair(values.pop("static")),
                low=_pair(values.pop("low")),
                **values,
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DualResError(f"the metadata of '{where}' is incomplete or edited: {error}.") from None


def _pair(value: Any) -> tuple[int, int] | None:
    return None if value is None else (int(value[0]), int(value[1]))
