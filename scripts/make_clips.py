"""Make video clips with exact boxes out of labelled photos: slow pans, zooms, stand-stills and cuts (Ken Burns).

    python scripts/make_clips.py --data instances_train2017.json --images train2017/ --clips 80 --out runs/clips/train

A clip is the view of a camera that moves over a photo, and of others after cuts. Boxes go along and are clipped as in
augmented views, so AP is real. Every frame has sensor noise of its own: no two frames are equal, even at a stand-still.
What this cannot show: objects that move on their own, motion blur, and what is hidden and appears.

Writes OUT/images/clip_000/000000.jpg, … and OUT/annotations.json (COCO-VID), ready for `dualres profile` and for
`--groups folder`. With --mp4 the frames go into OUT/videos/clip_000.mp4 instead; the annotations fit those too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dualres_plugin.common.images.decode import read_image
from dualres_plugin.predict.video import video_at
from dualres_plugin.profile.data.coco_json import read_coco
from dualres_plugin.profile.data.records import Dataset, ImageRecord
from dualres_plugin.profile.views import DROP_VISIBLE, KEEP_VISIBLE

LONG, SHORT = 640, 480  # frame, in pixels
MOVES = ("still", "pan", "zoom", "both")
RATE = 25.0  # frames a second of an .mp4
NOISE = 2.0  # grey levels
CLOSEST = 0.45  # smallest window, share of the largest one


@dataclass(frozen=True)
class Shot:
    """One photo and the camera's way over it.

    Attributes:
        record: the photo with its objects.
        start, end: (3,) centre x, centre y and width of the window, in shares of what is possible.
    """

    record: ImageRecord
    start: np.ndarray
    end: np.ndarray

    def window(self, share: float, frame: tuple[int, int]) -> tuple[float, float, float]:
        """Left, top in photo pixels, and photo pixels per frame pixel.

        Args:
            share: of the way, 0 to 1.
            frame: (height, width).
        """
        height, width = self.record.size
        eased = share * share * (3 - 2 * share)
        x, y, side = self.start + eased * (self.end - self.start)
        scale = side * min(width / frame[1], height / frame[0])
        return x * (width - scale * frame[1]), y * (height - scale * frame[0]), scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="COCO annotations of the photos")
    parser.add_argument("--images", required=True, help="their folder")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--cuts", type=float, default=0.3, help="share of clips that show more than one photo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mp4", action="store_true", help="write videos instead of frames")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    dataset = read_coco(Path(args.data), Path(args.images))
    coco: dict[str, Any] = {
        "videos": [],
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in dataset.categories.items()],
    }
    order = rng.permutation(len(dataset.records))
    for clip in range(args.clips):
        shots = _plan(dataset, order, clip, args.cuts, rng)
        if args.mp4:
            (args.out / "videos").mkdir(parents=True, exist_ok=True)
            with video_at(args.out / "videos" / f"clip_{clip:03d}.mp4", RATE) as video:
                _film(shots, clip, args.frames, lambda frame, name, video=video: video.write(frame), coco, rng)
                video.finish()
        else:
            _film(shots, clip, args.frames, partial(_save, args.out / "images"), coco, rng)
    (args.out / "annotations.json").write_text(json.dumps(coco))
    print(f"{args.clips} clips, {len(coco['images'])} frames, {len(coco['annotations'])} boxes in {args.out}")


def _plan(dataset: Dataset, order: np.ndarray, clip: int, cuts: float, rng: np.random.Generator) -> list[Shot]:
    """The shots of a clip; the photos of all of them are upright, or all are not."""
    first = dataset.records[order[clip % len(order)]]
    upright = first.size[0] > first.size[1]
    alike = [r for r in dataset.records if (r.size[0] > r.size[1]) == upright]
    count = int(rng.integers(2, 4)) if rng.random() < cuts else 1
    records = [first, *(alike[int(i)] for i in rng.choice(len(alike), count - 1, replace=False))]
    return [_shot(record, str(rng.choice(MOVES)), rng) for record in records]


def _shot(record: ImageRecord, move: str, rng: np.random.Generator) -> Shot:
    place, side = rng.random(2), rng.uniform(CLOSEST, 1.0)
    start = end = np.array([*place, side])
    if move in ("pan", "both"):
        end = np.array([*rng.random(2), end[2]])
        start = np.array([*start[:2], min(start[2], 0.8)])  # at full width there is nowhere to go
        end[2] = start[2]
    if move in ("zoom", "both"):
        end = np.array([*end[:2], rng.uniform(CLOSEST, 1.0)])
    return Shot(record, start, end)


def _save(folder: Path, frame: Image.Image, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    frame.save(folder / name, quality=92)


def _film(
    shots: list[Shot],
    clip: int,
    frames: int,
    write: Callable[[Image.Image, str], None],
    coco: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    height, width = shots[0].record.size
    frame = (LONG, SHORT) if height > width else (SHORT, LONG)
    title = f"clip_{clip:03d}"
    coco["videos"].append({"id": clip + 1, "name": title})
    borders = np.linspace(0, frames, len(shots) + 1).round().astype(int)
    for shot, begin, end in zip(shots, borders, borders[1:]):
        photo = Image.fromarray(read_image(shot.record.path, shot.record.size))
        for number in range(begin, end):
            window = shot.window((number - begin) / max(1, end - begin - 1), frame)
            name = f"{title}/{number:06d}.jpg"
            write(_picture(photo, window, frame, rng), name)
            image = len(coco["images"])
            described = {"id": image, "file_name": name, "height": frame[0], "width": frame[1]}
            described |= {"video_id": clip + 1, "frame_id": number}
            described["photo"] = shot.record.path.name  # another one than before: a cut
            coco["images"].append(described)
            coco["annotations"] += _objects(shot.record, window, frame, image, len(coco["annotations"]))


def _picture(
    photo: Image.Image, window: tuple[float, float, float], frame: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    left, top, scale = window
    box = (left, top, min(photo.width, left + scale * frame[1]), min(photo.height, top + scale * frame[0]))
    seen = photo.resize((frame[1], frame[0]), Image.Resampling.BICUBIC, box=box)
    noisy = np.asarray(seen) + rng.normal(0, NOISE, (*frame, 3))
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def _objects(
    record: ImageRecord, window: tuple[float, float, float], frame: tuple[int, int], image: int, first: int
) -> list[dict[str, Any]]:
    left, top, scale = window
    moved = (record.boxes.astype(np.float64) - np.array([left, top] * 2)) / scale
    boxes = moved.clip(0, [frame[1], frame[0]] * 2)
    visible = _areas(boxes) / np.maximum(_areas(moved), 1e-9)
    found = []
    for i in np.flatnonzero(visible >= DROP_VISIBLE):
        x0, y0, x1, y1 = (round(float(v), 3) for v in boxes[i])
        found.append(
            {
                "id": first + len(found) + 1,
                "image_id": image,
                "category_id": int(record.categories[i]),
                "bbox": [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)],
                "area": float(record.area[i] / scale**2 * visible[i]),
                "iscrowd": int(record.ignore[i] or visible[i] < KEEP_VISIBLE),
            }
        )
    return found


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


if __name__ == "__main__":
    main()
