"""Stored profiles: `profile.json`, and the bytes of `profile.parquet`."""

from __future__ import annotations

import json

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.strategies.json_values import mutated_json


def valid() -> bytes:
    """A description as `build_profile` writes it."""
    return json.dumps(
        {
            "format_version": 1,
            "kind": "dualres-profile",
            "host": "fake",
            "detector": "fake",
            "detector_fingerprint": "0123456789abcdef",
            "dataset": "numbers",
            "dataset_fingerprint": "0123456789abcdef",
            "labelled": True,
            "categories": {"1": "square", "2": "disc"},
            "high": 640,
            "scale": 0.5,
            "views": 2,
            "batch": 8,
            "seed": 0,
            "thumbnail_size": 16,
            "left_out": ["a.jpg"],
            "notes": [],
        }
    ).encode()


def mutated(valid: bytes) -> SearchStrategy[bytes]:
    """The description with odd values."""
    return mutated_json(valid)


def mutated_table(valid: bytes) -> SearchStrategy[bytes]:
    """A table's file with bytes flipped, or its end gone."""

    def change(flips: list[tuple[int, int]], end: int) -> bytes:
        content = bytearray(valid)
        for place, mask in flips:
            content[place] ^= mask
        return bytes(content[:end])

    flip = st.tuples(st.integers(0, len(valid) - 1), st.integers(1, 255))
    return st.builds(change, st.lists(flip, min_size=1, max_size=4), st.sampled_from([len(valid)] * 3 + [0, 8, 500]))
