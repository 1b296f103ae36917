"""COCO annotation files."""

from __future__ import annotations

import json

from hypothesis.strategies import SearchStrategy

from tests.fuzz.strategies.json_values import mutated_json

IMAGES = 3  # 0.png, 1.png, 2.png of 64 x 48 pixels


def valid() -> bytes:
    """Annotations of `IMAGES` photos."""
    return json.dumps(
        {
            "images": [{"id": i + 1, "file_name": f"{i}.png", "height": 48, "width": 64} for i in range(IMAGES)],
            "annotations": [
                {"id": i, "image_id": 1 + i % IMAGES, "category_id": 1 + i % 2, "bbox": [4 * i, 5, 20, 30.5]}
                | {"area": 610.0, "iscrowd": i // 5}
                for i in range(6)
            ],
            "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
        }
    ).encode()


def mutated(valid: bytes) -> SearchStrategy[bytes]:
    """The same with odd entries, or no JSON any more."""
    return mutated_json(valid)
