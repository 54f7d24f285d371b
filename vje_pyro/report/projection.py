"""Linear and neighbour-preserving views of embeddings: spectrum, principal components, t-SNE."""

from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE

from vje_pyro.evaluation.spectrum import spectrum
from vje_pyro.report.collect import SEED, Floats

MAP_LIMIT = 1_500
"""Images on a map: more are slow to lay out and hide each other."""

TSNE_MINIMUM = 50
"""Images below which a map is the two principal components alone."""


@dataclass(frozen=True)
class Projection:
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
    values = spectrum(_centred(embeddings))
    return values / values.sum()


def effective_rank(shares: Floats) -> float:
    """Exponential of the entropy of the shares (Roy & Vetterli 2007): 1 on a line, D in a ball."""
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def project(embeddings: Floats, limit: int = MAP_LIMIT) -> Projection:
    """Lays at most ``limit`` embeddings ``(N, D)`` out in the plane.

    The embeddings go to at most 50 principal components and from there through t-SNE (van der
    Maaten & Hinton 2008); with fewer than 50 images the first two components are the map.

    Raises:
        ValueError: As :func:`shares_of_variance`.
    """
    rows = np.arange(len(embeddings))
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(SEED).choice(len(rows), limit, replace=False))
    centred = _centred(embeddings[rows])
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    components = 2 if len(rows) < TSNE_MINIMUM else min(50, len(values))
    scores = left[:, :components] * values[:components]
    explained = float((values[:components] ** 2).sum() / (values**2).sum())
    if len(rows) < TSNE_MINIMUM:
        return Projection(scores, rows, "PCA", explained, components)
    start = 1e-4 * scores[:, :2] / scores[:, 0].std()
    layout = TSNE(2, perplexity=min(30.0, (len(rows) - 1) / 3), init=start, random_state=SEED)
    points = layout.fit_transform(scores.astype(np.float32))
    return Projection(points, rows, "t-SNE", explained, components)


def _centred(embeddings: Floats) -> Floats:
    if len(embeddings) < 2:
        raise ValueError("fewer than two images were embedded")
    if not np.isfinite(embeddings).all():
        bad = int((~np.isfinite(embeddings).all(axis=1)).sum())
        raise ValueError(f"{bad} of {len(embeddings)} embeddings are NaN or infinite")
    double = embeddings.astype(np.float64)
    centred = double - double.mean(axis=0)
    if np.abs(centred).max() <= 1e-6 * max(np.abs(double).max(), 1e-30):
        raise ValueError("all images have the same embedding: the representation has collapsed")
    return centred
