"""The closed-form head."""

from __future__ import annotations

import numpy as np

from dualres_plugin.train.linear.ridge import fit_ridge


def _planted(n: int, d: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    truth = rng.normal(size=d)
    return x, x @ truth + noise * rng.normal(size=n), truth


def test_finds_a_planted_map() -> None:
    x, y, truth = _planted(400, 10, 0.1)
    fitted = fit_ridge(x, y + 3.0, np.arange(400))
    assert np.abs(fitted.weights - truth).max() < 0.3
    assert abs(fitted.bias - 3.0) < 0.2
    assert fitted.spearman > 0.95


def test_agrees_with_the_normal_equations() -> None:
    x, y, _ = _planted(50, 80, 1.0)
    fitted = fit_ridge(x, y, np.arange(50), strengths=(10.0,))
    xc, yc = x - x.mean(axis=0), y - y.mean()
    expected = np.linalg.solve(xc.T @ xc + 10.0 * np.eye(80), xc.T @ yc)
    np.testing.assert_allclose(fitted.weights, expected, atol=1e-9)


def test_noise_gets_the_strongest_penalty_and_no_credit() -> None:
    rng = np.random.default_rng(1)
    fitted = fit_ridge(rng.normal(size=(300, 40)), rng.normal(size=300), np.arange(300))
    assert abs(fitted.spearman) < 0.2


def test_views_of_one_image_never_help_each_other() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(60), 5)
    image = rng.normal(size=(60, 200))[groups]  # equal features for all views of an image
    gain = rng.normal(size=60)[groups]  # and a gain that has nothing to do with them
    assert fit_ridge(image, gain, groups).spearman < 0.35
    assert fit_ridge(image, gain, np.arange(300)).spearman > 0.9  # what leaking between views would look like
