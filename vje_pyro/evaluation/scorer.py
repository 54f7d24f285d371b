"""All outlier scores of a run's method for any images; higher is more outlying, everywhere."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.batches import batches
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.views import random_views
from vje_pyro.diagnostics.aggregate_posterior import BANK, AggregatePosterior
from vje_pyro.diagnostics.likelihood_scores import between_scores, likelihood_scores
from vje_pyro.diagnostics.posterior_gaussian import PosteriorGaussian
from vje_pyro.embedding import map_batches
from vje_pyro.errors import first_line
from vje_pyro.evaluation.density_of_states import DENSITY_OF_STATES, DensityOfStates, states
from vje_pyro.evaluation.detectors import FEATURE_DETECTORS, Detector
from vje_pyro.evaluation.features import Features, extract
from vje_pyro.evaluation.labelled_detectors import (
    PYTORCH_OOD,
    has_pytorch_ood,
    probe_entropy,
    pytorch_ood_detectors,
)
from vje_pyro.evaluation.linear import fit_linear
from vje_pyro.evaluation.p_values import ConformalPValue
from vje_pyro.evaluation.predictive_density import LatentDensity, PredictiveDensity
from vje_pyro.inference import EmbeddingModel
from vje_pyro.method import Method, ProbabilisticMethod, evaluating, require
from vje_pyro.scores import OutlierScores, check_scores

logger = logging.getLogger(__name__)

Split = ImageArray | ImageFiles
Transform = Callable[[Tensor], Tensor]
Density = Callable[[Tensor], OutlierScores]
T = TypeVar("T")

NUM_VIEWS = 4
HELD_OUT = 0.2
"""Share of the training images that the densities are not made from; at most as many as are."""


class Scorer:
    """Detectors fitted on training images, and the scores that they give to others.

    Every method gets the feature detectors (``knn``, ``mahalanobis``, ``niw``); with labels of two
    classes or more, those of :mod:`~vje_pyro.evaluation.labelled_detectors` too. A probabilistic
    method gets :func:`~vje_pyro.diagnostics.likelihood_scores.likelihood_scores`,
    :class:`~vje_pyro.diagnostics.posterior_gaussian.PosteriorGaussian`,
    :class:`~vje_pyro.evaluation.predictive_density.LatentDensity`,
    :class:`~vje_pyro.evaluation.density_of_states.DensityOfStates` and, where its programs allow
    it, :class:`~vje_pyro.diagnostics.aggregate_posterior.AggregatePosterior`: of the image as it
    is, and with the suffix ``-views`` averaged over random views; and the ``between`` scores of
    these.

    Args:
        method: The method; it is scored in evaluation mode, where it is.
        train: Training images.
        normalize: From uint8 images to the method's input.
        make_views: From uint8 images ``(B, C, H, W)`` to normalised views ``(V, B, C, H, W)``;
            None leaves out what needs views.
        num_views: Random views of an image; two at least are made.
        labelled: Use the training labels. Detectors that cannot be fitted are in ``left_out``, by
            name with the reason.
        seed: Of the views, the latent samples and the choice of training images.
        calibration: Images in distribution for the p-values, best unseen in training; None takes
            training images that the densities are not fitted to.

    Raises:
        DataError: If the split is empty.
    """

    def __init__(
        self,
        method: Method,
        train: Split,
        normalize: Transform,
        make_views: Transform | None = None,
        num_views: int = NUM_VIEWS,
        labelled: bool = True,
        seed: int = 0,
        calibration: Split | None = None,
    ) -> None:
        self.method, self.normalize, self.make_views = method, normalize, make_views
        self.num_views, self.seed = num_views, seed
        self.device = next(method.parameters()).device
        self.left_out: dict[str, str] = {}
        self.detectors = feature_detectors(
            extract(method, train, normalize), labelled, self.left_out
        )
        self.densities: list[Density] = []
        self.dose: DensityOfStates | None = None
        if isinstance(method, ProbabilisticMethod):
            self._fit_densities(method, train, calibration)

    def _fit_densities(
        self, method: ProbabilisticMethod, train: Split, calibration: Split | None
    ) -> None:
        order = np.random.default_rng(self.seed).permutation(len(train))
        count = min(BANK, math.ceil(HELD_OUT * len(train)))
        held_out, bank = (
            train.subset(torch.from_numpy(part))
            for part in (order[:count], order[count : count + BANK])
        )
        embeddings = self._encode(bank)
        makers: dict[str, Callable[[], Density]] = {
            "posterior-gaussian": lambda: PosteriorGaussian(method, embeddings),
            "latent density": lambda: LatentDensity(method, embeddings),
        }
        if isinstance(method, EmbeddingModel):
            others = self._encode(held_out)
            makers["population"] = lambda: AggregatePosterior(method, embeddings, others)
        with evaluating(method):
            self.densities = list(_fitted(makers, self.left_out).values())
        judged = held_out if calibration is None else calibration
        known, new = self._over(bank, self._states), self._over(judged, self._states)
        made = _fitted({DENSITY_OF_STATES: lambda: DensityOfStates(known, new)}, self.left_out)
        self.dose = made.get(DENSITY_OF_STATES)

    def _encode(self, split: Split) -> Tensor:
        features = extract(self.method, split, self.normalize, features="batch-norm")
        return torch.from_numpy(features.x).to(self.device)

    def _states(self, images: Tensor) -> dict[str, Tensor]:
        return self._read(self.normalize(images))[1]

    def _read(self, inputs: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Of normalised images: likelihood scores, statistics for the states, and embeddings."""
        scores = likelihood_scores(self.method, inputs)
        embeddings = require(self.method, ProbabilisticMethod).encode(inputs)
        return scores, states(self.method, embeddings, scores), embeddings

    @property
    def p_values(self) -> dict[str, ConformalPValue]:
        """From scores to p-values, by the name of the score."""
        return {} if self.dose is None else {DENSITY_OF_STATES: self.dose.p_value}

    def __call__(self, split: Split, batch_size: int = 512) -> OutlierScores:
        """Scores of all images of a split by name, each ``(N,)`` float64, in the split's order.

        Raises:
            DataError: If the split is empty or too much of it is damaged.
            NonFiniteError: If a feature is not finite or a score NaN.
        """
        features = extract(self.method, split, self.normalize, batch_size)
        scores = {name: detect(features.x) for name, detect in self.detectors.items()}
        if isinstance(self.method, ProbabilisticMethod):
            scores |= self._model_scores(self._over(split, self._batch_scores, batch_size))
        return {name: check_scores(values, f"images ({name})") for name, values in scores.items()}

    def _over(
        self, split: Split, function: Callable[[Tensor], dict[str, Any]], batch_size: int = 512
    ) -> OutlierScores:
        """What a function says of all images of a split, with the random state that seeds give."""
        images = (images for images, _ in batches(split, batch_size))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            found = map_batches(self.method, function, images)
        return {name: values.numpy() for name, values in found.items()}

    def _batch_scores(self, images: Tensor) -> dict[str, Tensor]:
        """What scores are made of, ``(B, 1 + V, …)``: of images and of their views; ``(B,)``
        between the views.

        No density is asked here, since each would make the host wait for every batch.
        """
        found, between = [self._read(self.normalize(images))], {}
        if self.make_views is not None:
            views = random_views(self.make_views, images, max(2, self.num_views))
            found += [self._read(view) for view in views]
            between = between_scores(self.method, views)
        scores, statistics, embeddings = zip(*found, strict=True)
        return {
            **{f"score {n}": torch.stack([s[n] for s in scores], 1) for n in scores[0]},
            **{f"state {n}": torch.stack([s[n] for s in statistics], 1) for n in statistics[0]},
            "embeddings": torch.stack(embeddings, 1),
            **between,
        }

    def _model_scores(self, found: OutlierScores) -> OutlierScores:
        """Scores of images, and their means over views, of all that batches gave."""
        embeddings = torch.from_numpy(found.pop("embeddings"))
        between = {name: values for name, values in found.items() if values.ndim == 1}
        image, *views = (
            self._image_scores({n: v[:, k] for n, v in found.items() if v.ndim > 1}, each)
            for k, each in enumerate(embeddings.to(self.device).unbind(1))
        )
        means = {f"{n}-views": np.mean([s[n] for s in views], 0) for n in image if views}
        return image | means | between

    def _image_scores(self, found: OutlierScores, embeddings: Tensor) -> OutlierScores:
        """Scores of one input of every image, ``(N,)``."""

        def of(kind: str) -> OutlierScores:
            return {n.removeprefix(kind): v for n, v in found.items() if n.startswith(kind)}

        scores = of("score ")
        if self.dose is not None:
            scores[DENSITY_OF_STATES] = self.dose(of("state "))
        with evaluating(self.method):
            for density in self.densities:
                scores |= density(embeddings)
        return scores


def feature_detectors(
    train: Features, labelled: bool = True, left_out: dict[str, str] | None = None
) -> dict[str, Detector]:
    """Detectors fitted on training features, by the name of their score.

    Args:
        train: Training features.
        labelled: Use their labels, if every image has one and there are two classes or more.
        left_out: Gets the detectors that cannot be fitted, with the reason.
    """
    makers: dict[str, Callable[[], dict[str, Detector]]] = {
        name: lambda name=name, make=make: {name: make(train.x)}  # type: ignore[misc]
        for name, make in (FEATURE_DETECTORS | {"niw": PredictiveDensity}).items()
    }
    if labelled and (train.y >= 0).all() and len(np.unique(train.y)) >= 2:
        probe = fit_linear(train.x, train.y)
        makers["probe-entropy"] = lambda: {"probe-entropy": probe_entropy(probe)}
        if has_pytorch_ood():
            makers[", ".join(PYTORCH_OOD)] = lambda: pytorch_ood_detectors(train, probe)
        else:
            logger.warning(
                "the detectors of pytorch-ood are left out: pip install 'vje-pyro[ood]' adds them"
            )
    detectors: dict[str, Detector] = {}
    for made in _fitted(makers, left_out).values():
        detectors |= made
    return detectors


def _fitted(makers: Mapping[str, Callable[[], T]], left_out: dict[str, str] | None) -> dict[str, T]:
    """What can be made; why not, of the others."""
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except (ValueError, RuntimeError) as error:  # of linear algebra, in NumPy's and torch's way
            if left_out is None:
                raise
            left_out[name] = first_line(error)
    return made
