"""What each host still does when it is wrapped: plain and wrapped side by side, one check a cell.

    python examples/host_table.py yolo11n.pt mmdet:yolox.py,yolox.pth --photos photos/ --data data.yaml

Prints a Markdown table. "equal" means bit for bit, with every photo at high; "refused: ..." is the message that a user
gets; "-" is something that the host itself does not offer. `--data` is a data.yaml for Ultralytics' `val`.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualres_plugin import DualResWrapper
from dualres_plugin.common.errors import DualResError, one_message
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import list_images
from dualres_plugin.hosts.registry import load_detector

NONE = "-"
ALL_HIGH, ALL_LOW = float("-inf"), float("inf")


@dataclass
class Case:
    """One host: its adapter, the wrapper at all high, photos, and the host's data set."""

    adapter: Any
    model: DualResWrapper
    photos: list[Path]
    data: str | None

    @property
    def name(self) -> str:
        return str(self.adapter.name)


def boxes(result: Any) -> np.ndarray:
    """(N, 4) of a host's own result, or (N, 4) of effdet's rows."""
    if isinstance(result, dict):
        return np.asarray(result["boxes"].detach())
    if hasattr(result, "pred_instances"):
        return np.asarray(result.pred_instances.bboxes.cpu())
    found = result.boxes.xyxy if hasattr(result, "boxes") else result.detach()[:, :4]
    return np.asarray(torch.Tensor(found).cpu())


def plain(case: Case, photo: Path) -> np.ndarray:
    """What the host finds without us, in the words of its own users."""
    detector = case.adapter.detector
    if case.name == "ultralytics":
        return boxes(detector.predict(str(photo), verbose=False)[0])
    if case.name == "mmdet":
        from mmdet.apis import inference_detector

        return boxes(inference_detector(detector, str(photo)))
    with torch.no_grad():
        if case.name == "torchvision":
            pixels = torch.from_numpy(read_image(photo).copy()).permute(2, 0, 1).float() / 255
            return boxes(copy.copy(detector).eval()([pixels])[0])
        batch = case.adapter.collate([read_image(photo)], case.adapter.default_size)
        return boxes(detector.eval()(batch.images, batch.info())[0])


def routed(case: Case, photo: Path, model: DualResWrapper | None = None, **options: Any) -> np.ndarray:
    quiet = {"verbose": False} if case.name == "ultralytics" else {}
    return boxes((model or case.model).predict([str(photo)], **quiet, **options)[0])


def same(a: Any, b: Any) -> str:
    if np.array_equal(a, b):
        return "equal"
    return f"differs by {np.abs(a - b).max():.2g}" if np.shape(a) == np.shape(b) else f"{len(a)} and {len(b)} boxes"


def predict(case: Case) -> str:
    return same(*(np.concatenate([find(case, photo) for photo in case.photos]) for find in (plain, routed)))


def stream(case: Case) -> str:
    quiet = {"verbose": False} if case.name == "ultralytics" else {}
    source = [str(photo) for photo in case.photos]
    given = case.model.predict(source, stream=True, **quiet)
    if isinstance(given, list):
        return "a list"
    at_once = case.model.predict(source, **quiet)
    return same(*(np.concatenate([boxes(r) for r in results]) for results in (at_once, given)))


def val(case: Case) -> str:
    if case.name != "ultralytics" or not case.data:
        return NONE
    words = {"data": case.data, "verbose": False, "plots": False, "workers": 0}
    return same(*(host.val(**words).box.maps for host in (case.adapter.detector, case.model)))


def track(case: Case) -> str:
    if case.name != "ultralytics":
        return NONE
    pictures = [str(photo) for photo in case.photos]
    return same(
        *(
            np.concatenate([boxes(host.track(p, persist=False, verbose=False)[0]) for p in pictures])
            for host in (type(case.adapter.detector)(case.adapter.detector.ckpt_path), case.model)
        )
    )


def train_mode(case: Case) -> str:
    net = case.adapter.detector.model if case.name == "ultralytics" else case.adapter.detector
    net.train()
    before = [part.training for part in net.modules()]
    found = routed(case, case.photos[0])
    after = [part.training for part in net.modules()]
    net.eval()
    kept = "mode kept" if before == after else "put into eval"
    return f"{same(found, routed(case, case.photos[0]))}, {kept}"


def compiled(case: Case) -> str:
    if case.name == "ultralytics":
        return same(routed(case, case.photos[0]), routed(case, case.photos[0], compile=True))
    wrapped = DualResWrapper(torch.compile(case.adapter.detector), "default", threshold=ALL_HIGH)
    return "unwrapped, " + same(routed(case, case.photos[0]), routed(case, case.photos[0], wrapped))


def export(case: Case) -> str:
    form = {"effdet": "pair"}.get(case.name, "cond")  # whose sizes are fixed
    with tempfile.TemporaryDirectory() as folder:
        case.model.export(
            Path(folder, "pair" if form == "pair" else "model.onnx"),
            form=form,
            images=str(case.photos[0].parent),
            photos=2,
        )
        return f"{form}, checked"


def save(case: Case) -> str:
    if not hasattr(case.model, "save"):
        return NONE
    with tempfile.TemporaryDirectory() as folder:
        case.model.save(str(Path(folder, "model.pt")))
    return "saved"


def own_size(case: Case) -> str:
    return f"{case.model.high} px, low {case.model.low}"


def pixel_sizes(case: Case) -> str:
    """A low size in pixels is that size at another high size, too."""
    high, step = case.model.high, max(case.adapter.stride, 32)
    larger, low = -(-int(1.5 * high) // step) * step, -(-high // 2 // step) * step
    model = DualResWrapper(case.adapter, "default", high=larger, low=low, threshold=ALL_LOW)
    routed(case, case.photos[0], model)
    return f"{larger} and {low} px run"


def swapped_axes(case: Case) -> str:
    return taken(case, np.zeros((3, 96, 128), np.uint8))


def whole_numbers(case: Case) -> str:
    return taken(case, torch.zeros(3, 96, 128, dtype=torch.uint8))


def taken(case: Case, picture: Any) -> str:
    """What the plain host and the wrapped one do with a picture that is none."""
    detector, quiet = case.adapter.detector, {"verbose": False} if case.name == "ultralytics" else {}
    try:
        if case.name == "ultralytics":
            detector.predict(picture, **quiet)
        elif case.name == "mmdet":
            from mmdet.apis import inference_detector

            inference_detector(detector, picture)
        else:
            tensor = torch.as_tensor(picture)
            detector([tensor] if case.name == "torchvision" else tensor[None])
        alone = "plain takes it"
    except Exception as error:
        alone = f"plain fails ({type(error).__name__})"
    try:
        case.model.predict(picture, **quiet)
    except DualResError as error:
        return f"{alone}; {refusal(error)}"
    return f"{alone}; so does ours"


CHECKS: dict[str, Callable[[Case], str]] = {
    "predict": predict,
    "stream": stream,
    "val": val,
    "track": track,
    "training mode": train_mode,
    "torch.compile": compiled,
    "export": export,
    "save": save,
    "own size": own_size,
    "sizes in pixels": pixel_sizes,
    "uint8 array (3, H, W)": swapped_axes,
    "uint8 tensor (3, H, W)": whole_numbers,
}


def cell(check: Callable[[Case], str], case: Case) -> str:
    try:
        return check(case)
    except DualResError as error:
        return refusal(error)
    except Exception as error:
        return f"the host fails: {type(error).__name__}"


def refusal(error: DualResError) -> str:
    """The first sentence of a message."""
    return "refused: " + str(error).split(". ")[0].split(": ")[0].replace("|", "/")[:90]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="+", help="as for dualres profile")
    parser.add_argument("--photos", required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, default=4, help="use only so many")
    parser.add_argument("--data", help="data.yaml for the val of Ultralytics")
    args = parser.parse_args()

    photos = list_images(args.photos)[: args.limit]
    columns = []
    for spec in args.detectors:
        adapter = load_detector(spec)
        case = Case(adapter, DualResWrapper(adapter, "default", threshold=ALL_HIGH), photos, args.data)
        columns.append((case.name, [cell(check, case) for check in CHECKS.values()]))
    print("| | " + " | ".join(name for name, _ in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for number, name in enumerate(CHECKS):
        print(f"| {name} | " + " | ".join(cells[number] for _, cells in columns) + " |")


if __name__ == "__main__":
    with one_message():
        main()
