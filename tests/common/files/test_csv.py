"""Cells that a spreadsheet would take for formulas."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.files.csv import Writer, plain, safe


def test_text_like_a_formula_is_escaped_and_numbers_stay() -> None:
    for text in ("=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\r=x", "=HYPERLINK('x')"):
        assert safe(text) == f"'{text}"
    for cell in (-1.5, 3, None, True, "-0.5", "+1e-3", "-inf", "photo.jpg", "", "a=b", "'quoted"):
        assert safe(cell) == cell


@given(st.text(st.sampled_from("'=+-@a1\t\r"), max_size=6))
def test_what_was_escaped_comes_back(text: str) -> None:
    assert plain(safe(text)) == text


def test_a_file() -> None:
    out = io.StringIO()
    Writer(out).writerows([["file", "score"], ["=evil.jpg", "-0.25000"]])
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [["file", "score"], ["'=evil.jpg", "-0.25000"]]
