"""The best linear encoders: of reconstruction and of joint embedding, from moments of the views.

Source: Van Assel et al. (arXiv 2505.12477), closed forms of the two linear problems.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, svd

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class ViewMoments:
    """What both solutions need to know of n data of dimension d and of their views τ(x)."""

    cross: Matrix  #: ``(1/n) Σ x E[τ(x)]ᵀ``, shape ``(d, d)``.
    between: Matrix  #: ``(1/n) Σ E[τ(x)] E[τ(x)]ᵀ``, shape ``(d, d)``.
    within: Matrix  #: ``(1/n) Σ Cov[τ(x)]``, shape ``(d, d)``.

    @property
    def total(self) -> Matrix:
        """``(1/n) Σ E[τ(x) τ(x)ᵀ]``, shape ``(d, d)``."""
        return self.between + self.within


@dataclass(frozen=True)
class LinearAutoencoder:
    """What reconstruction learns: ``x ≈ decoder @ encoder @ τ(x)``."""

    encoder: Matrix  #: Shape ``(k, d)``.
    decoder: Matrix  #: Shape ``(d, k)``.
    strengths: NDArray[np.float64]  #: All singular values, of which the encoder keeps k, ``(d,)``.


def view_moments(data: Matrix, views: Matrix) -> ViewMoments:
    """Moments of data and of views that were drawn, with the unbiased covariance within.

    Args:
        data: Shape ``(n, d)``.
        views: Shape ``(V, n, d)``, at least two of each datum.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if data.ndim != 2 or views.ndim != 3 or views.shape[1:] != data.shape or len(views) < 2:
        raise ValueError(
            f"data (n, d) and at least two views (V, n, d) wanted, got {data.shape} and "
            f"{views.shape}"
        )
    n = len(data)
    mean = views.mean(axis=0)
    residual = (views - mean).reshape(-1, data.shape[1])
    return ViewMoments(
        cross=data.T @ mean / n,
        between=mean.T @ mean / n,
        within=residual.T @ residual / (n * (len(views) - 1)),
    )


def reconstruction(moments: ViewMoments, k: int) -> LinearAutoencoder:
    """Encoder E and decoder D that minimise ``mean ‖x − D E τ(x)‖²`` over data and views.

    With the singular value decomposition ``cross @ total^(-1/2) = R Φ Pᵀ`` the encoder is
    ``P_kᵀ total^(-1/2)`` and the decoder ``R_k Φ_k``.

    Args:
        moments: Of data and views.
        k: Dimension of the representation.

    Raises:
        ValueError: If k is not in 1…d, or the views' second moment is singular.
    """
    whitening = _inverse_root(moments.total, k)
    left, strengths, right = svd(moments.cross @ whitening)
    return LinearAutoencoder(right[:k] @ whitening, left[:, :k] * strengths[:k], strengths)


def joint_embedding(moments: ViewMoments, k: int) -> tuple[Matrix, NDArray[np.float64]]:
    """Encoder W that minimises ``mean ‖W τ(x) − W τ'(x)‖²`` with ``W total Wᵀ`` the identity.

    With the eigenvalues ``total^(-1/2) between total^(-1/2) = Q Ω Qᵀ`` it is ``Q_kᵀ total^(-1/2)``.
    Arguments and errors are those of :func:`reconstruction`.

    Returns:
        The encoder, ``(k, d)``, and all eigenvalues that directions are ranked by, descending,
        ``(d,)``, between 0 and 1.
    """
    whitening = _inverse_root(moments.total, k)
    values, vectors = eigh(whitening @ moments.between @ whitening)
    return vectors[:, ::-1][:, :k].T @ whitening, values[::-1]


def _inverse_root(second_moment: Matrix, k: int) -> Matrix:
    """The symmetric inverse square root."""
    if not 1 <= k <= len(second_moment):
        raise ValueError(f"k must be between 1 and d = {len(second_moment)}, got {k}")
    values, vectors = eigh(second_moment)
    if values[0] <= values[-1] * np.finfo(np.float64).eps * len(values):
        raise ValueError(
            f"the views' second moment is singular (least eigenvalue {values[0]:.3g}, greatest "
            f"{values[-1]:.3g}): leave out constant features, or add noise to the views"
        )
    root: Matrix = (vectors / np.sqrt(values)) @ vectors.T
    return root
