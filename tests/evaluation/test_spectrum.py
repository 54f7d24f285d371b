import numpy as np
import pytest

from vje_pyro.evaluation import spectrum


def test_eigenvalues_of_a_known_covariance():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x = (rng.normal(size=(50_000, 3)) * [3.0, 2.0, 0.5]) @ rotation + 10
    assert spectrum(x) == pytest.approx([9, 4, 0.25], rel=0.03)


def test_agrees_with_singular_values():
    x = np.random.default_rng(1).normal(size=(7, 12)).astype(np.float32)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2 / 6
    eigenvalues = spectrum(x)
    assert eigenvalues[:6] == pytest.approx(singular[:6], rel=1e-4)
    assert (eigenvalues[6:] >= 0).all()
    assert eigenvalues[6:] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 4), (8,)])
def test_needs_a_matrix_of_two_rows(shape):
    with pytest.raises(ValueError, match="at least two rows"):
        spectrum(np.zeros(shape))
