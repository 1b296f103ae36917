"""What an exported file says about itself: sizes, names, threshold, and how photos go in and boxes come out.

Read by the runtime, written by the exporter. Neither torch nor a host is imported here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, with_config

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import GATE, Int, Number, PlainDict, Quantiles, checked, shown

FORMAT_VERSION = 1
KEY = "dualres"  # of ONNX's metadata_props
FORMS = ("cond", "resize", "branches", "pair")
HALF_ABOVE = 1 << 14  # values of a router's tensor that is stored in 16 bits, in exported files and where asked for
CARD_MB = 4.0  # a data set of thousands of classes has long names
SKIP, SKIPPED = -1, "skip"  # step and route of a frame of a stream on which no size runs
MOST_SIZES = 32  # of one file: each is a step in its graph, and every further one saves less


def _base_name(name: str) -> str:
    if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
        raise ValueError("must be the name of a file in the same folder")
    return name


def _no_nan(value: float) -> float:
    if value != value:
        raise ValueError("must be a number; infinities are the exact ends")
    return value


def _smaller(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(before <= after for before, after in pairwise(values)):
        raise ValueError("must become smaller from one to the next")
    return values


def _descending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(before < after for before, after in pairwise(values)):
        raise ValueError("must descend")
    return values


Side = Annotated[Int, Field(ge=1, le=65_536)]
Share = Annotated[Number, Field(ge=0, le=1)]
Scale = Annotated[Number, Field(gt=0, lt=1)]
Threshold = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_no_nan)]
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
class Several:
    """The sizes of a file with more than two, largest first.

    Attributes:
        sizes: in pixels.
        scales: each but the largest, as a ratio of it.
        thresholds: defaults of the input of that name, descending.
        gmacs: of one square image at each size; empty where the host cannot count.

    Raises:
        DualResError: If they are not as many as the sizes.
    """

    sizes: Annotated[tuple[Side, ...], Field(min_length=3, max_length=MOST_SIZES), AfterValidator(_smaller)]
    scales: Annotated[tuple[Scale, ...], Field(max_length=MOST_SIZES), AfterValidator(_smaller)]
    thresholds: Annotated[tuple[Threshold, ...], Field(max_length=MOST_SIZES), AfterValidator(_descending)]
    gmacs: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(max_length=MOST_SIZES)] = ()

    def __post_init__(self) -> None:
        count = len(self.sizes)
        for name, wanted in (("scales", count - 1), ("thresholds", count - 1), ("gmacs", count)):
            found = len(getattr(self, name))
            if found != wanted and (name != "gmacs" or found):
                raise DualResError(f"{count} sizes need {wanted} {name}, not {found}")


@with_config(GATE)
@dataclass(frozen=True)
class Card:
    """The metadata of an exported model.

    Attributes:
        form: "cond", "resize", "branches" or "pair".
        host: the ecosystem that the detector comes from.
        high: high size in pixels.
        scale: low / high ratio, that of the smallest size.
        stride: sizes are multiples of it.
        static: (height, width) that the graph is fixed to; None where any size will do.
        low: (height, width) of the low input, the smallest one, that belongs to `static`.
        threshold: default of the input of that name; of more than two sizes the first of them.
        quantiles: of the scores on the router's calibration images, 0 to 100 %; empty without calibration.
        names: label -> class name.
        version: of dualres-plugin.
        files: of a pair: "router", "high", "low" -> file name beside the manifest; "640", "512", … of several sizes.
        checksums: of a pair: file name -> SHA-256; empty in pairs of older versions.
        parity: what the check at export found.
        several: of a file with more than two sizes; else None, and not written.
        thumbnail: side in pixels of the input of that name, which the graph leaves to whoever runs it; None, and not
            written, where the graph makes it from `images`.
    """

    form: Annotated[str, Field(pattern=f"^({'|'.join(FORMS)})$")]
    host: Annotated[str, Field(max_length=100)]
    high: Side
    scale: Scale
    stride: Annotated[Int, Field(ge=1, le=4096)]
    threshold: Threshold
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
    several: Several | None = None
    thumbnail: Annotated[Int, Field(ge=16, le=2048)] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes in pixels, largest first."""
        return self.several.sizes if self.several else (self.high, round(self.high * self.scale))

    @property
    def scales(self) -> tuple[float, ...]:
        """Each size but the largest, as a ratio of it."""
        return self.several.scales if self.several else (self.scale,)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Scores between the sizes, descending: the defaults of the graph."""
        return self.several.thresholds if self.several else (self.threshold,)

    @property
    def routes(self) -> tuple[str, ...]:
        """What the sizes are called."""
        return route_names(self.sizes)

    @property
    def costs(self) -> tuple[float, ...]:
        """What an image costs at each size: GMACs where they are known, else pixels."""
        known = self.several.gmacs if self.several else ()
        return known or tuple(float(size * size) for size in self.sizes)

    def only(self, step: int) -> tuple[float, ...]:
        """The thresholds that send every image to one size.

        Args:
            step: 0 for the largest size, 1 for the next smaller one, …
        """
        return tuple(float("inf" if i < step else "-inf") for i in range(len(self.thresholds)))

    def to_json(self) -> str:
        """JSON text; an infinite threshold becomes the string that Python's `float` reads."""
        values: dict[str, Any] = {"format_version": FORMAT_VERSION, "kind": "dualres-model", **asdict(self)}
        values["threshold"] = str(float(self.threshold))
        if self.thumbnail is None:
            del values["thumbnail"]
        if self.several is None:
            del values["several"]
        else:
            values["several"]["thresholds"] = [str(float(t)) for t in self.several.thresholds]
        return json.dumps(values, ensure_ascii=False)

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
        lost = sorted(cls.__dataclass_fields__.keys() - values.keys() - {"checksums", "several", "thumbnail"})
        if lost:
            raise DualResError(f"{edited}: it lacks {', '.join(lost)}.")
        return checked(cls, values, edited)


def route_names(sizes: tuple[int, ...]) -> tuple[str, ...]:
    """What the sizes of a file are called: "high" and "low", or by their pixels.

    Args:
        sizes: in pixels, largest first.
    """
    return ("high", "low") if len(sizes) == 2 else tuple(map(str, sizes))
