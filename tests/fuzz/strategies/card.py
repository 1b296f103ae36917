"""The metadata that an exported file carries, and the file itself."""

from __future__ import annotations

import json

import onnx
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from dualres_plugin.common.card import KEY
from tests.fuzz.strategies.mutate import as_json, damaged_bytes, damaged_tree


def mutated(valid: bytes) -> SearchStrategy[bytes]:
    """An ONNX file whose card is odd, or whose bytes are.

    Args:
        valid: an exported file.
    """
    model = onnx.load_from_string(valid)
    card = json.loads(next(p.value for p in model.metadata_props if p.key == KEY))
    cards = damaged_tree(card).map(lambda tree: _with_card(valid, as_json(tree)))
    return st.one_of(cards, cards, cards, damaged_bytes(valid))


def _with_card(valid: bytes, card: bytes) -> bytes:
    model = onnx.load_from_string(valid)
    for entry in model.metadata_props:
        if entry.key == KEY:
            entry.value = card.decode()
    return bytes(model.SerializeToString())
