"""What has to stay as it is: memory and descriptors over thousands of frames, and a silent runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.runtime.memory import resident
from dualres_plugin.runtime.session import DualResSession
from tests.small_models import pictures

FRAMES = 2000


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors as Linux lists them")
@pytest.mark.parametrize("form", ["cond", "pair"])
def test_memory_and_descriptors_stay_flat(models: dict[str, Path], form: str) -> None:
    photos = pictures(6)
    session = DualResSession(models[form], threads=1)
    session.threshold = float(np.median([r.score for r in session.predict(photos)]))
    stream = session.stream(photos[i % len(photos)] for i in range(FRAMES))
    for _ in range(200):
        next(stream)
    begun, open_files = resident()[0], len(list(Path("/proc/self/fd").iterdir()))
    assert sum(1 for _ in stream) == FRAMES - 200
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files
    assert resident()[0] - begun < 10, "MB more after 1,800 frames"


def test_a_correct_file_loads_and_runs_without_a_word(models: dict[str, Path]) -> None:
    """onnxruntime warns of every input that has a default, as `threshold` and `content` do on purpose."""
    code = (
        "import sys, numpy as np\n"
        "from dualres_plugin.runtime.session import DualResSession\n"
        "for path in sys.argv[1:]:\n"
        "    DualResSession(path).predict(np.zeros((90, 120, 3), np.uint8))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, models.values())], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and done.stdout + done.stderr == ""
