"""Joining profiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.table import Profile
from dualres_plugin.train.ranks import spearman
from dualres_plugin.train.training_set import training_set


def test_several_profiles_are_averaged_after_ranking(profile: Profile) -> None:
    shuffled = profile.table
    order = np.random.default_rng(0).permutation(len(profile))
    for name in ("low_boxes", "low_scores", "low_categories"):
        i = shuffled.schema.get_field_index(name)
        shuffled = shuffled.set_column(i, name, profile.table.column(name).take(order))
    other = Profile(profile.meta, shuffled, profile.path)

    def gain(*profiles: Profile) -> np.ndarray:
        return training_set(profiles, "auto", 16).gain.numpy()

    assert np.allclose(gain(profile, profile), gain(profile), atol=1e-5)
    both = gain(profile, other)
    assert np.allclose(both, gain(other, profile))
    assert abs(spearman(gain(profile), gain(other))) < 0.3
    assert all(0.5 < spearman(both, gain(one)) < 0.9 for one in (profile, other))


def test_only_common_images_count(tmp_path: Path, profile: Profile) -> None:
    part = Profile(profile.meta, profile.table.slice(0, 50), profile.path)
    assert len(training_set([profile, part], "auto", 16)) == 50
    other = profile.table.set_column(0, "image_id", [list(range(1000, 1120))])
    with pytest.raises(DualResError, match="no image and view in common"):
        training_set([profile, Profile(profile.meta, other, profile.path)], "auto", 16)
