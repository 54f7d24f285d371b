"""ood-v1: how well every score of a method tells another data set from its own test split."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vje_pyro.data.batches import batches
from vje_pyro.diagnostics.aggregate_posterior import BANK
from vje_pyro.diagnostics.likelihood_scores import NUM_SAMPLES
from vje_pyro.errors import DataError
from vje_pyro.evaluation.result import Result
from vje_pyro.evaluation.scorer import Scorer, Split
from vje_pyro.scores import OutlierScores, detection_figures
from vje_pyro.statistics import RESAMPLES

ALARM_LEVEL = 0.05
"""Level of the alarms that are counted: the false alarms that are allowed."""


class OutOfDistribution:
    """ood-v1 of a run: called with a set, it gives that set's result.

    Args:
        scorer: Fitted on ``train``.
        train: Training images.
        test: Inliers: the test split.
        dataset: Name of the data set that is in distribution.
        seed: Seed of the training run, for the result.
        config: Configuration of the training run, for the result.

    Raises:
        DataError: If there are no images.
        NonFiniteError: If a score is NaN.
    """

    def __init__(
        self,
        scorer: Scorer,
        train: Split,
        test: Split,
        *,
        dataset: str,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.scorer, self.train, self.test = scorer, train, test
        self.dataset, self.seed, self.config = dataset, seed, dict(config or {})
        self.known = _pixel_digests(train) | _pixel_digests(test)
        self.inliers = scorer(test)
        self.scores: dict[str, OutlierScores] = {}
        """Scores of every image of the sets that were judged, by the set's name."""
        self.false_alarms = _alarms(scorer, self.inliers)

    def __call__(self, name: str, split: Split) -> Result:
        """The result of a set, not yet written.

        Args:
            name: Of the set.
            split: Its images.

        Raises:
            DataError: If the set is the run's own data, or has no images.
            NonFiniteError: If a score is NaN.
        """
        start = time.perf_counter()
        shared = check_foreign(name, split, self.known)
        scores = self.scores[name] = self.scorer(split)
        parts = {"train": self.train, "test": self.test, "out": split}
        return Result(
            protocol="ood-v1",
            dataset={
                "name": self.dataset,
                "out": name,
                "train": len(self.train),
                "test": len(self.test),
                "outliers": len(split),
                "digest": {part: images.digest() for part, images in parts.items()},
            },
            method=type(self.scorer.method).__name__,
            features="encoder",
            figures=detection_figures(self.inliers, scores),
            seed=self.seed,
            settings={
                "positives": "outliers",
                "views": self.scorer.num_views,
                "latent_samples": NUM_SAMPLES,
                "bank": BANK,
                "resamples": RESAMPLES,
                "seed": self.scorer.seed,
            },
            config=self.config,
            details={
                "images_also_in_distribution": shared,
                "alarm_level": ALARM_LEVEL,
                "false_alarms": self.false_alarms,
                "alarms": _alarms(self.scorer, scores),
            },
            device=str(self.scorer.device),
            wall_time_s=round(time.perf_counter() - start, 3),
        )


def _alarms(scorer: Scorer, scores: OutlierScores) -> dict[str, float]:
    """Share of images whose p-value is at most the level, by score."""
    return {
        name: float(np.mean(p_value(scores[name]) <= ALARM_LEVEL))
        for name, p_value in scorer.p_values.items()
    }


def check_foreign(name: str, split: Split, known: set[bytes]) -> int:
    """How many images of a set are pixel for pixel among the known ones.

    Raises:
        DataError: If all are: the set is the run's own data.
    """
    digests = _pixel_digests(split)
    shared = len(digests & known)
    if shared == len(digests):
        raise DataError(
            f"{name} is no out-of-distribution set: each of its images is also in the run's own "
            f"training or test split."
        )
    return shared


def _pixel_digests(split: Split) -> set[bytes]:
    return {
        hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
        for images, _ in batches(split, 512)
        for image in torch.as_tensor(images).cpu().numpy()
    }
