"""How unusual each image of a folder is: the score is chosen, and fitted, without outliers.

Which score: detectors are fitted on half of the training images and judged on the other half, of
which spoiled copies are the outliers (:mod:`~vje_pyro.evaluation.pseudo_outliers`). The score with
the greatest mean AUROC is taken. The first half holds a few copies that are spoiled in the same
way, since a folder holds its own outliers: a covariance that is fitted on them hides them. Where a
half has fewer images than features, a covariance is not determined, and ``knn`` is taken.

No detector has seen the image that it scores: training images are cut into folds by their pixels,
and an image is scored by the detector that its fold was left out of. A detector that has been
fitted on an outlier finds it less unusual.

Source: this project.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data.arrays import UNLABELLED, ImageArray
from vje_pyro.data.batches import batches
from vje_pyro.data.files import ImageFiles
from vje_pyro.diagnostics.posterior_gaussian import RECOMMENDED
from vje_pyro.errors import DataError, VJEError
from vje_pyro.evaluation.detectors import FEATURE_DETECTORS, Detector, Mahalanobis
from vje_pyro.evaluation.features import extract
from vje_pyro.evaluation.pseudo_outliers import SPOILED, spoiled
from vje_pyro.method import Method, ProbabilisticMethod
from vje_pyro.scores import detection_metrics

Split = ImageArray | ImageFiles
Transform = Callable[[Tensor], Tensor]
Array = NDArray[np.float32]


def _per_feature(bank: Array) -> Detector:
    """Squared Mahalanobis distance over the number of features: 1 is usual."""
    distance = Mahalanobis(bank)
    return lambda x: distance(x) / bank.shape[1]


DETECTORS: dict[str, Callable[[Array], Detector]] = {
    "mahalanobis": _per_feature,
    RECOMMENDED: _per_feature,
    "knn": FEATURE_DETECTORS["knn"],
}
"""From features of training images to a detector, by the name of the score."""

CONTAMINATION = 0.02
"""Share of outliers of one kind among the images that a detector is fitted on to be judged."""

FOLDS = 5
MAX_IMAGES = 20_000
"""Training images that detectors are fitted on."""

NUM_SPOILED = 1000
"""Training images that are spoiled: one half to fit on, one half to judge by."""

_FEWEST = 4


@dataclass(frozen=True)
class Described:
    """What a method says of N images.

    Args:
        features: By the name of the score that is computed from them, each ``(N, F)``.
        digests: SHA-256 of the pixels of each image.
    """

    features: dict[str, Array]
    digests: list[bytes]

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def embeddings(self) -> Array:
        """``(N, D)``."""
        return self.features["knn"]


def describe(method: Method, split: Split, normalize: Transform) -> Described:
    """What a method says of the images of a split, without the damaged ones.

    Raises:
        DataError: The split is empty, or too much of it is damaged.
    """
    digests: list[bytes] = []

    def noted(images: Tensor) -> Tensor:
        pixels = images.cpu().numpy()
        digests.extend(hashlib.sha256(image.tobytes()).digest() for image in pixels)
        return normalize(images)

    found = extract(method, split, noted, posterior=isinstance(method, ProbabilisticMethod))
    features = {"mahalanobis": found.x, "knn": found.x}
    if found.posterior is not None:
        loc, scale = found.posterior
        features[RECOMMENDED] = np.concatenate([loc, np.log(scale)], axis=1)
    return Described(features, digests)


def _joined(parts: Sequence[Described]) -> Described:
    names = parts[0].features
    features = {name: np.concatenate([part.features[name] for part in parts]) for name in names}
    return Described(features, [digest for part in parts for digest in part.digests])


def _array(images: Tensor) -> ImageArray:
    return ImageArray(images, torch.full((len(images),), UNLABELLED))


class Unusual:
    """Scores of images under a run: higher is more unusual.

    Args:
        method: The method.
        train: Training images; at most :data:`MAX_IMAGES` of them are used.
        normalize: From uint8 images to the method's input.
        detector: Name of the score; None chooses it, see the module.
        seed: Of the halves, and of the choice of training images.

    Raises:
        DataError: There are fewer than 4 training images, or all are the same.
        VJEError: There is no such score.
    """

    def __init__(
        self,
        method: Method,
        train: Split,
        normalize: Transform,
        detector: str | None = None,
        seed: int = 0,
    ) -> None:
        self.method, self.normalize = method, normalize
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(train))[:MAX_IMAGES])
        some, others = order[:NUM_SPOILED], order[NUM_SPOILED:]
        images = torch.cat([pixels for pixels, _ in batches(train.subset(some), 512)]).cpu()
        copies = [spoiled(images, how) for how in SPOILED]
        self.sample, *self.spoiled = (
            describe(method, _array(x), normalize) for x in (images, *copies)
        )
        rest = [describe(method, train.subset(others), normalize)] if len(others) else []
        self.train = _joined([self.sample, *rest])
        self.folds = {d: i % FOLDS for i, d in enumerate(sorted(set(self.train.digests)))}
        if len(self.folds) < _FEWEST:
            raise DataError(
                f"the run has {len(self.folds)} different training images; telling the unusual "
                f"needs {_FEWEST}."
            )
        if detector not in (None, *self.train.features):
            raise VJEError(
                f"there is no score {detector!r}: choose from {', '.join(self.train.features)}."
            )
        self.merits = {} if detector else {n: self._merit(n) for n in self._determined()}
        self.detector = detector or max(self.merits, key=self.merits.__getitem__)

    def _determined(self) -> list[str]:
        """Scores that half of the training images determine."""
        features = self.train.features.items()
        return [name for name, x in features if name == "knn" or x.shape[1] < len(x) / 2]

    def _merit(self, name: str) -> float:
        """Mean AUROC over all ways of spoiling: fitted on one half, judged on the other."""
        known = np.arange(len(self.train)) % 2 == 0
        judged = ~known[: len(self.sample)]
        few = math.ceil(CONTAMINATION * known.sum())
        found = []
        for copies in (part.features[name] for part in self.spoiled):
            bank = np.concatenate([self.train.features[name][known], copies[~judged][:few]])
            score = DETECTORS[name](bank)
            inside, outside = score(self.sample.features[name][judged]), score(copies[judged])
            found.append(detection_metrics(inside, outside)["auroc"])
        return float(np.mean(found))

    def __call__(self, images: Described) -> NDArray[np.float64]:
        """Scores ``(N,)`` of described images; higher is more unusual."""
        known = np.array([self.folds[digest] for digest in self.train.digests])
        fold = np.array([self.folds.get(digest, 0) for digest in images.digests])
        bank, scores = self.train.features[self.detector], np.empty(len(images))
        for number in np.unique(fold).tolist():
            score, chosen = DETECTORS[self.detector](bank[known != number]), fold == number
            scores[chosen] = score(images.features[self.detector][chosen])
        return scores
