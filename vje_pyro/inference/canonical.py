"""Canonical coordinates of embeddings: what an image's views share, apart from what differs."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from vje_pyro.inference.experts import stack_views


class CanonicalCoordinates(TransformerMixin, BaseEstimator):
    r"""Linear coordinates in which embeddings are white and the differences of views independent.

    With total covariance :math:`T` of the views' embeddings and covariance :math:`W` within an
    image, the matrix :math:`A` solves the generalised eigenproblem

    .. math::

        A^\top T A = I, \qquad A^\top W A = \mathrm{diag}(1 - \rho),

    so that ρ is the correlation between two views of an image, feature by feature, the largest
    first. Embeddings need no labels and any method's will do.

    Source: canonical correlation analysis of two views, Hotelling (Biometrika 28, 1936), here of
    exchangeable views; the two covariances are those of Ioffe's probabilistic linear discriminant
    analysis (ECCV 2006), where an image takes the place of a class.

    Args:
        num_features: Features d that are kept, at most; None keeps all.

    Attributes:
        mean_: Of all views' embeddings, ``(D,)`` float64.
        components_: The matrix A, ``(D, d)`` float64.
        within_variance_: The features' variance within an image, ``(d,)``, float64.
        correlation_: The features' ρ, one less that, ``(d,)`` in (0, 1), float64.

    Raises:
        ValueError: If ``num_features`` is below 1.

    Example:
        >>> image = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(1))
        >>> views = image + torch.tensor([0.1, 1.0, 3.0]) * noise
        >>> CanonicalCoordinates().fit(views).correlation_.round(decimals=1)
        tensor([1.0000, 0.5000, 0.1000], dtype=torch.float64)
    """

    def __init__(self, num_features: int | None = None) -> None:
        if num_features is not None and num_features < 1:
            raise ValueError(f"num_features must be at least 1, or None, got {num_features}.")
        self.num_features = num_features

    def fit(self, X: Tensor | np.ndarray, y: object = None) -> "CanonicalCoordinates":
        """From embeddings of at least two views of every image, ``(V, N, D)``.

        Directions in which the embeddings do not vary are left out.

        Raises:
            ValueError: If there is only one view or image, a view is missing, or nothing varies.
            NonFiniteError: If an embedding is not finite.
        """
        views = torch.as_tensor(X)
        if views.dim() != 3 or min(views.shape[:2]) < 2:
            raise ValueError(
                f"canonical coordinates need embeddings (V, N, D) of at least two views of two "
                f"images, got shape {tuple(views.shape)}."
            )
        views = stack_views(views).double()
        self.mean_ = views.mean((0, 1))
        centred = (views - self.mean_).flatten(0, 1)
        total = centred.T @ centred / len(centred)
        differences = (views - views.mean(0)).flatten(0, 1)
        within = differences.T @ differences / (len(differences) - views.shape[1])
        variance, axes = torch.linalg.eigh(total)
        varies = variance > variance[-1] * len(variance) * torch.finfo(torch.float32).eps
        if not varies.any() or variance[-1] <= 0:
            raise ValueError("the embeddings of all views of all images are equal.")
        white = axes[:, varies] * variance[varies].rsqrt()
        noise, rotation = torch.linalg.eigh(white.T @ within @ white)
        self.components_ = (white @ rotation)[:, : self.num_features]
        self.within_variance_ = noise[: self.num_features]
        # Of few images, an estimate can leave the range of a correlation.
        eps = torch.finfo(torch.float32).eps
        self.correlation_ = (1 - self.within_variance_).clamp(eps, 1 - eps)
        return self

    def transform(self, X: Tensor | np.ndarray) -> Tensor:
        """Coordinates ``(..., d)`` float32 of embeddings ``(..., D)``."""
        embeddings = torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X)).double()
        return ((embeddings - self.mean_) @ self.components_).float()


class WithinImageWhitening(CanonicalCoordinates):
    r"""Coordinates in which what differs between views of an image is white.

    The features of :class:`CanonicalCoordinates`, each divided by the scale of the views'
    differences, :math:`\sqrt{1 - \rho}`: with :math:`W` the covariance within an image,
    :math:`B^\top W B = I`. Squared distances are then Mahalanobis distances by :math:`W`, and do
    not depend on an invertible linear map of the embeddings.

    Source: within-class whitening (Hatch & Stolcke, ICASSP 2006), where an image takes the place of
    a class.

    Example:
        >>> image = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(2, 500, 2, generator=torch.Generator().manual_seed(1))
        >>> views = image + torch.tensor([0.1, 3.0]) * noise
        >>> x = WithinImageWhitening().fit(views).transform(views)
        >>> ((x[0] - x[1]) / 2**0.5).std(0).round(decimals=1)
        tensor([1., 1.])
    """

    def fit(self, X: Tensor | np.ndarray, y: object = None) -> "WithinImageWhitening":
        """From embeddings of at least two views of every image, ``(V, N, D)``.

        Raises:
            ValueError: As in :class:`CanonicalCoordinates`, or if views of the same image are equal
                in some direction in which images differ: then there are too few images.
            NonFiniteError: If an embedding is not finite.
        """
        super().fit(X)
        variance = self.within_variance_
        if equal := int((variance <= torch.finfo(torch.float32).eps).sum()):
            raise ValueError(
                f"the views of each image are equal in {equal} of {len(variance)} directions in "
                f"which images differ: fit on more images, or on more views of each."
            )
        self.components_ = self.components_ * variance.rsqrt()
        return self
