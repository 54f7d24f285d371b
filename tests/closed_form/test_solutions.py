"""Both closed forms against the problems that they solve."""

import numpy as np
import pytest
from scipy.optimize import minimize

from vje_pyro.closed_form import joint_embedding, reconstruction, view_moments

N, D, K, V = 60, 5, 2, 4


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((N, D)) @ rng.standard_normal((D, D))
    noise = rng.standard_normal((V, N, D)) * np.linspace(0.1, 1.5, D)
    return data, 0.9 * data + noise


@pytest.fixture(scope="module")
def exact(drawn):
    """Moments over just these views, as if there were no others."""
    data, views = drawn
    moments = view_moments(data, views)
    within = moments.within * (V - 1) / V
    return type(moments)(moments.cross, moments.between, within)


def reconstruction_loss(data, views, encoder, decoder):
    return np.mean(np.sum((data - views @ encoder.T @ decoder.T) ** 2, axis=-1))


def test_the_moments_are_those_of_the_views(drawn):
    data, views = drawn
    moments = view_moments(data, views)
    within = np.mean([np.cov(views[:, n].T) for n in range(N)], axis=0)
    np.testing.assert_allclose(moments.within, within, atol=1e-12)
    np.testing.assert_allclose(moments.between, np.mean(
        [np.outer(m, m) for m in views.mean(0)], axis=0), atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(moments.cross, data.T @ views.mean(0) / N, atol=1e-12)
    np.testing.assert_allclose(moments.total, moments.between + moments.within)


def test_no_search_finds_a_better_autoencoder(drawn, exact):
    data, views = drawn
    solved = reconstruction(exact, K)
    best = reconstruction_loss(data, views, solved.encoder, solved.decoder)

    def loss(flat):
        encoder, decoder = flat[: K * D].reshape(K, D), flat[K * D :].reshape(D, K)
        return reconstruction_loss(data, views, encoder, decoder)

    rng = np.random.default_rng(1)
    found = min(minimize(loss, rng.standard_normal(2 * K * D)).fun for _ in range(3))
    assert best == pytest.approx(found, rel=1e-5)
    assert np.all(np.diff(solved.strengths) <= 0)


def test_the_loss_left_is_what_the_dropped_strengths_leave(drawn, exact):
    data, views = drawn
    solved = reconstruction(exact, K)
    left = np.mean(np.sum(data**2, axis=-1)) - np.sum(solved.strengths[:K] ** 2)
    loss = reconstruction_loss(data, views, solved.encoder, solved.decoder)
    assert loss == pytest.approx(left, rel=1e-10)


def alignment_loss(views, encoder):
    """Mean squared distance between the representations of two views, any two."""
    features = views @ encoder.T
    return 2 * np.mean(np.sum((features - features.mean(axis=0)) ** 2, axis=-1))


def test_no_whitened_encoder_aligns_views_better(drawn, exact):
    _, views = drawn
    encoder, eigenvalues = joint_embedding(exact, K)
    best = alignment_loss(views, encoder)
    np.testing.assert_allclose(encoder @ exact.total @ encoder.T, np.eye(K), atol=1e-10)
    assert best == pytest.approx(2 * np.sum(1 - eigenvalues[:K]), rel=1e-10)
    assert np.all((eigenvalues > 0) & (eigenvalues < 1))
    values, vectors = np.linalg.eigh(exact.total)
    whitening = vectors / np.sqrt(values) @ vectors.T
    rng = np.random.default_rng(2)
    for _ in range(200):
        basis, _ = np.linalg.qr(rng.standard_normal((D, K)))
        assert alignment_loss(views, basis.T @ whitening) >= best


def test_the_last_eigenvector_would_align_worst(drawn, exact):
    _, views = drawn
    whole, _ = joint_embedding(exact, D)
    losses = [alignment_loss(views, row[None]) for row in whole]
    assert losses == sorted(losses)


@pytest.mark.parametrize("solve", [reconstruction, joint_embedding])
@pytest.mark.parametrize("k", [0, D + 1])
def test_k_out_of_range_is_refused(exact, solve, k):
    with pytest.raises(ValueError, match=f"between 1 and d = {D}, got {k}"):
        solve(exact, k)


@pytest.mark.parametrize("solve", [reconstruction, joint_embedding])
def test_a_constant_feature_is_refused(drawn, solve):
    data, views = drawn
    padded = [np.concatenate([x, np.zeros((*x.shape[:-1], 1))], axis=-1) for x in (data, views)]
    with pytest.raises(ValueError, match="singular"):
        solve(view_moments(*padded), K)


def test_one_view_is_refused(drawn):
    data, views = drawn
    with pytest.raises(ValueError, match="at least two views"):
        view_moments(data, views[:1])
