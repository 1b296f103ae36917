"""What the tests of the report share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.evaluate.report.gallery import Ranked

RUN = {"command": "dualres evaluate a b --out c", "seed": 3, "router": {"backbone": "tiny", "notes": []}}


TIMES = {"t_router": 2.0, "t_low": 10.0, "t_high": 40.0}


def page_data(folder: Path) -> dict[str, Any]:
    """What the page's script gets."""
    html = (folder / "report.html").read_text()
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert len(found) == 1
    return dict(json.loads(found[0]))


def ranked_of(values: list[float]) -> Ranked:
    n = len(values)
    return Ranked(np.arange(n), np.linspace(1, 0, n), np.zeros(n), np.array(values))
