"""What the heads share: labels, checks, and the class probabilities averaged over a posterior."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from vje_pyro.errors import DataError
from vje_pyro.heads.latents import Floats, Latents, as_latents

UNLABELLED = -1


class Head(ClassifierMixin, BaseEstimator):
    """A classifier in the manner of scikit-learn, on points or posteriors.

    ``X`` is what :func:`~vje_pyro.heads.latents.as_latents` takes: points ``(N, D)``, a pair
    ``(loc, scale)``, or a distribution.

    Args:
        classes: The classes to tell apart, each of which needs a labelled image; those of the
            labels if None.
    """

    def __init__(self, classes: Sequence[int] | None = None) -> None:
        self.classes = classes

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Learn from labelled images, and from unlabelled ones what needs no labels.

        Args:
            X: Images, points or posteriors.
            y: Classes, whole numbers ``(N,)``; −1 for an image without label.

        Raises:
            ValueError: If shapes do not fit, or labels are no whole numbers.
            NonFiniteError: If a number is NaN or infinite.
            DataError: If there are fewer than two classes, a class has no labelled image, a label
                is none of ``classes``, or the images do not differ.
        """
        latents, labels = as_latents(X), np.asarray(y)
        if labels.shape != (len(latents),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"{len(latents)} images need as many whole numbers as labels, got "
                f"{labels.dtype} of shape {labels.shape}."
            )
        labelled = labels != UNLABELLED
        self.classes_ = self._checked_classes(labels[labelled])
        self.n_features_in_ = latents.loc.shape[1]
        if not latents.loc.std(axis=0).any():
            raise DataError(f"all {len(latents)} images have the same features: nothing to learn.")
        self._fit(latents, np.searchsorted(self.classes_, labels[labelled]), labelled)
        return self

    def _checked_classes(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        present = np.unique(labels)
        wanted = present if self.classes is None else np.unique(np.asarray(self.classes, int))
        if len(wanted) < 2:
            raise DataError(f"a head tells classes apart and needs two, got {wanted.tolist()}.")
        if len(missing := np.setdiff1d(wanted, present)):
            raise DataError(
                f"{len(labels)} labelled images for {len(wanted)} classes: there is none of the "
                f"classes {missing.tolist()}; label one of each, or leave these classes out."
            )
        if len(unknown := np.setdiff1d(present, wanted)):
            raise DataError(
                f"labels {unknown.tolist()} are none of the classes {wanted.tolist()}; −1 marks an "
                f"image without label."
            )
        return wanted

    def predict_proba(self, X: Any) -> Floats:
        """Class probabilities of images, ``(N, C)``, in the order of ``classes_``.

        Raises:
            ValueError: If shapes do not fit.
            NonFiniteError: If a number is NaN or infinite.
        """
        check_is_fitted(self)
        latents = as_latents(X)
        if latents.loc.shape[1] != self.n_features_in_:
            raise ValueError(
                f"the head was fitted to {self.n_features_in_} features, but the images have "
                f"{latents.loc.shape[1]}."
            )
        return self._predict_proba(latents)

    def log_predictive(self, X: Any) -> Floats:
        """Logarithm of :meth:`predict_proba`, in nats, ``(N, C)``."""
        return np.log(np.maximum(self.predict_proba(X), np.finfo(np.float64).tiny))

    def predict(self, X: Any) -> NDArray[np.integer]:
        """The most probable classes, ``(N,)``."""
        places = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[np.integer] = self.classes_[places]
        return labels

    @abstractmethod
    def _fit(self, latents: Latents, y: NDArray[np.intp], labelled: NDArray[np.bool_]) -> None:
        """Fit to all images; ``y`` are the places in ``classes_`` of the labelled ones."""

    @abstractmethod
    def _predict_proba(self, latents: Latents) -> Floats:
        """Class probabilities ``(N, C)``."""
