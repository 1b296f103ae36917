"""CSV files of (compute, metric) points."""

from __future__ import annotations

from hypothesis.strategies import SearchStrategy

from tests.fuzz.strategies import yolo_labels


def valid() -> bytes:
    """Two methods with two points each."""
    return b"method,gflops,ap,beta\na,112.4,52.1,0\na,143.2,53.3,1\nb,174.0,53.8,0\nb,181.7,53.9,1\n"


def mutated(valid: bytes) -> SearchStrategy[bytes]:
    """Odd words in any cell, rows that are too short, bytes that are no text."""
    return yolo_labels.mutated(valid)
