"""The versioned protocols, and one function that runs them on the features of two splits."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vje_pyro.errors import DataError
from vje_pyro.evaluation import bayes_heads, calibration, few_label, knn, linear
from vje_pyro.evaluation.bootstrap import bootstrap_accuracy, t_interval
from vje_pyro.evaluation.features import Features
from vje_pyro.evaluation.result import Figure, Result


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
    return Scores({"accuracy": bootstrap_accuracy(predicted == test.y)}, settings)


def linear_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """Multinomial logistic regression on standardised features (on the CPU)."""
    probe = linear.fit_linear(train.x, train.y)
    settings = {"C": linear.C, "tolerance": linear.TOLERANCE}
    details = {
        "iterations": probe.iterations,
        "train_accuracy": float(np.mean(probe.predict(train.x) == train.y)),
    }
    figure = bootstrap_accuracy(probe.predict(test.x) == test.y)
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
    return Scores({"accuracy": bootstrap_accuracy(predicted == test.y)}, settings)


def few_label_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """The linear probe with 1, 5 and 10 labels per class (on the CPU)."""
    accuracies = few_label.few_label_accuracies(train.x, train.y, test.x, test.y)
    settings = {
        "C": linear.C,
        "tolerance": linear.TOLERANCE,
        "labels_per_class": list(few_label.LABELS_PER_CLASS),
        "draws": few_label.DRAWS,
    }
    figures = {
        f"accuracy_{m}": t_interval(values, over="draws") for m, values in accuracies.items()
    }
    return Scores(figures, settings, {f"draws_{m}": values for m, values in accuracies.items()})


def bayes_heads_v1(train: Features, test: Features, device: torch.device) -> Scores:
    """Accuracy, NLL and ECE of Bayesian heads with 1, 5 and 10 labels per class (on the CPU)."""
    draws = bayes_heads.few_label_scores(train, test)
    settings = {
        "labels_per_class": list(few_label.LABELS_PER_CLASS),
        "draws": few_label.DRAWS,
        "bins": calibration.BINS,
        "C": linear.C,
    }
    figures = {name: t_interval(values, over="draws") for name, values in draws.items()}
    return Scores(figures, settings, {f"draws_{name}": values for name, values in draws.items()})


PROTOCOLS: dict[str, Protocol] = {
    "knn-v1": knn_v1,
    "linear-v1": linear_v1,
    "linear-sgd-v1": linear_sgd_v1,
    "few-label-v1": few_label_v1,
    "bayes-heads-v1": bayes_heads_v1,
}

DEFAULT = ("knn-v1", "linear-v1", "few-label-v1")


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
        DataError: If a label is missing, or the splits do not fit together.
    """
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown:
        raise ValueError(f"unknown protocols {unknown}; choose from {list(PROTOCOLS)}")
    check_splits(train, test)
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
                details={"dimension": train.x.shape[1], **scores.details},
                device=str(device),
                wall_time_s=round(time.perf_counter() - start, 3),
            )
        )
    return results


def check_splits(train: Features, test: Features) -> None:
    """Refuse splits that are empty, lack a label or do not fit together.

    Raises:
        DataError: It says which.
    """
    for name, split in (("train", train), ("test", test)):
        if len(split) == 0:
            raise DataError(f"the {name} split is empty")
        unlabelled = int(np.count_nonzero(split.y < 0))
        if unlabelled:
            raise DataError(
                f"{unlabelled} of {len(split)} images of the {name} split have no label; the "
                "protocols need labels: use a labelled split, or only embed these images"
            )
    if train.x.shape[1] != test.x.shape[1]:
        raise DataError(
            f"train features have {train.x.shape[1]} dimensions and test features "
            f"{test.x.shape[1]}: they come from different encoders or image sizes"
        )
