"""Images of Gaussian classes, of which a few are labelled."""

import numpy as np
import pytest


class Problem:
    """Classes with means N(0, spread²) in some directions and one covariance."""

    def __init__(self, num_classes=4, dim=12, spread=1.5, seed=0):
        self.rng = np.random.default_rng(seed)
        scale = np.linspace(2, 0.3, dim)
        self.means = spread * scale**2 * self.rng.normal(size=(num_classes, dim))
        self.factor = np.linalg.qr(self.rng.normal(size=(dim, dim)))[0] * scale

    def images(self, n):
        y = np.arange(n) % len(self.means)
        rotation = self.factor / np.linalg.norm(self.factor, axis=0)
        noise = self.rng.normal(size=(n, len(self.factor))) @ self.factor.T
        return self.means[y] @ rotation.T + noise, y


@pytest.fixture
def problem():
    return Problem


def few(y, per_class, seed=0):
    """Labels of a few images a class; −1 for the others."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(y == c), per_class, replace=False) for c in np.unique(y)]
    known = np.full_like(y, -1)
    known[np.concatenate(chosen)] = y[np.concatenate(chosen)]
    return known


@pytest.fixture(name="few")
def few_labels():
    return few
