"""The versioned protocols, and one function that runs them on the features of two splits."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from vje_pyro.errors import DataError
from vje_pyro.evaluation import bayes_heads, few_label, knn, linear
from vje_pyro.evaluation.features import Features
from vje_pyro.evaluation.result import Result
from vje_pyro.names import DEFAULT_PROTOCOLS
from vje_pyro.statistics import BINS, Figure, bootstrap_mean, over_repetitions, scale_of


@dataclass(frozen=True)
class Scores:
    """What a protocol measured: its figures, settings and details (see :class:`Result`)."""

    figures: dict[str, Figure]
    settings: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)


Protocol = Callable[[Features, Features, torch.device], Scores]


def knn_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """Weighted cosine kNN with the training split as the bank."""
    k = knn.default_k(len(train))
    bank, classes, queries = (torch.from_numpy(a).to(device) for a in (train.x, train.y, test.x))
    predicted = knn.knn_predict(bank, classes, queries, k).cpu().numpy()
    settings = {"k": k, "temperature": knn.TEMPERATURE}
    return Scores({"accuracy": _accuracy(predicted, test)}, settings)


def linear_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """Multinomial logistic regression on standardised features (on the CPU)."""
    probe = linear.fit_linear(train.x, train.y)
    settings = {"C": linear.C, "tolerance": linear.TOLERANCE}
    details = {
        "iterations": probe.iterations,
        "train_accuracy": float(np.mean(probe.predict(train.x) == train.y)),
    }
    figure = _accuracy(probe.predict(test.x), test)
    return Scores({"accuracy": figure}, settings, details)


def linear_sgd_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """The 100-epoch SGD probe on raw features."""
    predicted = linear.linear_sgd_predict(train.x, train.y, test.x, device=device)
    settings = {
        "epochs": linear.EPOCHS,
        "batch_size": linear.BATCH_SIZE,
        "learning_rate": linear.LEARNING_RATE,
        "momentum": linear.MOMENTUM,
        "milestones": list(linear.MILESTONES),
    }
    return Scores({"accuracy": _accuracy(predicted, test)}, settings)


def few_label_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """The linear probe with 1, 5 and 10 labels per class (on the CPU)."""
    accuracies = few_label.few_label_accuracies(
        train.x, train.y, test.x, test.y, labels_per_class=few_label.possible(train.y)
    )
    settings = {
        "C": linear.C,
        "tolerance": linear.TOLERANCE,
        "labels_per_class": list(few_label.LABELS_PER_CLASS),
        "draws": few_label.DRAWS,
    }
    figures = _over_draws({f"accuracy_{m}": values for m, values in accuracies.items()})
    details = {f"draws_{m}": values for m, values in accuracies.items()}
    return Scores(figures, settings, details | _too_rare(train))


def _accuracy(predicted: ArrayLike, test: Features) -> Figure:
    return bootstrap_mean(np.asarray(predicted) == test.y, over="test images")


def _over_draws(draws: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    return {n: over_repetitions(values, scale_of(n), "draws") for n, values in draws.items()}


def _too_rare(train: Features) -> dict[str, dict[str, str]]:
    """The labels per class that some class does not have, as a detail; nothing if all have."""
    classes, counts = np.unique(train.y, return_counts=True)
    why = f"class {classes[counts.argmin()]} has {counts.min()} training images"
    missing = [m for m in few_label.LABELS_PER_CLASS if m not in few_label.possible(train.y)]
    return {"left_out": {f"accuracy_{m}": why for m in missing}} if missing else {}


def bayes_heads_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """Accuracy, NLL and ECE of Bayesian heads with 1, 5 and 10 labels per class (on the CPU)."""
    draws = bayes_heads.few_label_scores(train, test)
    settings = {
        "labels_per_class": list(few_label.LABELS_PER_CLASS),
        "draws": few_label.DRAWS,
        "bins": BINS,
        "C": linear.C,
    }
    figures = _over_draws(draws)
    details = {f"draws_{name}": values for name, values in draws.items()}
    return Scores(figures, settings, details | _too_rare(train))


PROTOCOLS: dict[str, Protocol] = {
    "knn-v1": knn_v1,
    "linear-v1": linear_v1,
    "linear-sgd-v1": linear_sgd_v1,
    "few-label-v1": few_label_v1,
    "bayes-heads-v1": bayes_heads_v1,
}

DEFAULT = DEFAULT_PROTOCOLS


def evaluate(
    train: Features,
    test: Features,
    *,
    dataset: str,
    method: str,
    features: str,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    protocols: Sequence[str] = DEFAULT,
    device: torch.device | str = "cpu",
) -> list[Result]:
    """Run protocols on features; one :class:`Result` a protocol, not yet written.

    Args:
        train: Features of the labelled training split.
        test: Features of the test split.
        dataset: Name of the data set, for the result.
        method: Name of the method, for the result.
        features: Which of its features these are, for the result.
        seed: Seed of the training run, for the result.
        config: Configuration of the training run, for the result.
        protocols: Names from :data:`PROTOCOLS`.
        device: Where kNN and the SGD probe run.

    Raises:
        ValueError: If a protocol is unknown, or the splits are too small for it.
        DataError: If the splits cannot be used (:func:`usable`).
    """
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown:
        raise ValueError(f"unknown protocols {unknown}; choose from {list(PROTOCOLS)}")
    train, test, left_out = usable(train, test)
    device = torch.device(device)
    description = {
        "name": dataset,
        "train": len(train),
        "test": len(test),
        "classes": int(np.unique(train.y).size),
        "digest": {"train": train.digest, "test": test.digest},
    }
    results = []
    for name in protocols:
        start = time.perf_counter()
        scores = PROTOCOLS[name](train, test, device)
        results.append(
            Result(
                protocol=name,
                dataset=description,
                method=method,
                features=features,
                figures=scores.figures,
                seed=seed,
                settings=scores.settings,
                config=dict(config or {}),
                details={"dimension": train.x.shape[1], **scores.details, **_all(left_out, scores)},
                device=str(device),
                wall_time_s=round(time.perf_counter() - start, 3),
            )
        )
    return results


def usable(train: Features, test: Features) -> tuple[Features, Features, dict[str, str]]:
    """The images whose class is known and among those of the training split.

    Returns:
        Both splits, and why images are left out, by the split's name.

    Raises:
        DataError: If a split is empty, has no such image, holds fewer than two classes to train on,
            or the two do not fit together.
    """
    if train.x.shape[1] != test.x.shape[1]:
        raise DataError(
            f"train features have {train.x.shape[1]} dimensions and test features "
            f"{test.x.shape[1]}: they come from different encoders or image sizes"
        )
    classes = np.unique(train.y[train.y >= 0])
    left_out, parts = {}, []
    for name, split in (("train", train), ("test", test)):
        if len(split) == 0:
            raise DataError(f"the {name} split is empty")
        known = np.isin(split.y, classes)
        if not known.any():
            raise DataError(
                f"no image of the {name} split has a label that can be used; the protocols need "
                "labels: use a labelled split, or only embed these images"
            )
        if not known.all():
            count = int(np.count_nonzero(~known))
            left_out[f"{count} of {len(split)} images of the {name} split"] = (
                "they have no label of the training split's classes"
            )
        parts.append(split if known.all() else split.subset(known))
    if len(classes) < 2:
        raise DataError(
            "the training split has a single class: at least two classes are needed to classify"
        )
    return parts[0], parts[1], left_out


def _all(left_out: dict[str, str], scores: Scores) -> dict[str, dict[str, str]]:
    """All that is left out, as a detail; nothing where nothing is."""
    every = left_out | scores.details.get("left_out", {})
    return {"left_out": every} if every else {}
