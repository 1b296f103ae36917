"""A small evaluation, and the report of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.write import write_evaluation
from dualres_plugin.profile.table import Profile
from tests.evaluate.report.helpers import RUN, TIMES
from tests.report_case import build_profile, evaluate_case


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return build_profile(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def evaluation(profile: Profile) -> Evaluation:
    return evaluate_case(profile)


@pytest.fixture(scope="module")
def out(profile: Profile, evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new"
    write_evaluation(folder, evaluation, profile, title="A & B", run=RUN, gallery=12, timings=TIMES)
    return folder
