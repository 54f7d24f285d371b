"""Linear and neighbour-preserving views of embeddings: spectrum, principal components, t-SNE."""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from vje_pyro.evaluation.spectrum import spectrum
from vje_pyro.report.collect import SEED, Floats

MAP_LIMIT = 1_200
"""Images on a map: more are slow to lay out and hide each other."""

TSNE_MINIMUM = 50
"""Images below which a map is the two principal components alone."""


class Projection(NamedTuple):
    """A map of images.

    Args:
        points: Coordinates ``(n, 2)``.
        rows: Rows of the sample that are on the map, ``(n,)``.
        kind: "t-SNE" or "PCA".
        explained: Share of the variance that the principal components used hold.
        components: Number of principal components used.
    """

    points: Floats
    rows: np.ndarray
    kind: str
    explained: float
    components: int


def shares_of_variance(embeddings: Floats) -> Floats:
    """Eigenvalues of the covariance of ``(n, D)`` embeddings over their sum, falling, ``(D,)``.

    Raises:
        ValueError: Fewer than two images, embeddings that are not finite, or no variance at all.
    """
    values = spectrum(_checked(embeddings))
    return values / values.sum()


def participation_ratio(shares: Floats) -> float:
    """``1 / Σ p²`` of shares ``p`` of the variance: 1 on a line, D in a ball."""
    return float(1 / (shares**2).sum())


def project(embeddings: Floats, limit: int = MAP_LIMIT) -> Projection:
    """Lay at most ``limit`` embeddings ``(N, D)`` out in the plane.

    The embeddings go to at most 50 principal components and from there through t-SNE (van der
    Maaten & Hinton 2008); with fewer than 50 images the first two components are the map.

    Raises:
        ValueError: As :func:`shares_of_variance`.
    """
    rows = np.arange(len(embeddings))
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(SEED).choice(len(rows), limit, replace=False))
    chosen = _checked(embeddings[rows])
    few = len(rows) < TSNE_MINIMUM
    pca = PCA(2 if few else min(50, *chosen.shape), svd_solver="full")
    scores = pca.fit_transform(chosen)
    explained, components = float(pca.explained_variance_ratio_.sum()), scores.shape[1]
    if few:
        return Projection(scores, rows, "PCA", explained, components)
    tsne = TSNE(2, perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", random_state=SEED)
    points = tsne.fit_transform(scores.astype(np.float32))
    return Projection(points, rows, "t-SNE", explained, components)


def _checked(embeddings: Floats) -> Floats:
    if len(embeddings) < 2:
        raise ValueError("fewer than two images were embedded")
    if bad := int((~np.isfinite(embeddings).all(axis=1)).sum()):
        raise ValueError(f"{bad} of {len(embeddings)} embeddings are NaN or infinite")
    double = embeddings.astype(np.float64)
    if np.ptp(double, axis=0).max() <= 2e-6 * max(np.abs(double).max(), 1e-30):
        raise ValueError("all images have the same embedding: the representation has collapsed")
    return double
