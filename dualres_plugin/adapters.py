"""Stands for the folder `adapters/` beside this package in a checkout, so that an import by path finds adapters too.

Installed, that folder is inside the package as `dualres_plugin/adapters/`, and Python prefers a folder to this file.
"""

from __future__ import annotations

from pathlib import Path

__path__ = [str(Path(__file__).parent.parent / "adapters")]
