"""Does the uncertainty of a run predict errors? Protocol uncertainty-v2."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.data import CIFAR10, ImageArray, read_label_entropy, select_images
from vje_pyro.diagnostics import expected_coverage, predictive_check, require_posterior
from vje_pyro.diagnostics.uncertainty_protocol import (
    crop_figure,
    nearest_neighbour_errors,
    r_auroc_figures,
    selective_details,
)
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Features, Figure, Result, extract, knn_predict
from vje_pyro.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from vje_pyro.evaluation.detectors import FEATURE_DETECTORS, KNNDistance
from vje_pyro.evaluation.knn import default_k
from vje_pyro.evaluation.labelled_detectors import probe_entropy
from vje_pyro.evaluation.linear import fit_linear
from vje_pyro.evaluation.protocols import usable
from vje_pyro.evaluation.random_crops import SIDES, random_crops
from vje_pyro.method import ProbabilisticMethod, require
from vje_pyro.models import ManyViews
from vje_pyro.run import Representation
from vje_pyro.scores import OutlierScores, aurc_figure, spearman_figure
from vje_pyro.statistics import RESAMPLES
from vje_pyro.verbs.pairs import split_pairs
from vje_pyro.verbs.partial import Parts, output_folder
from vje_pyro.verbs.several_views import NEIGHBOUR, VIEWS, view_figures

PROTOCOL = "uncertainty-v2"

SEED = 0
"""Of the choice of images, their corruptions, crops, views and draws."""

CROPS = 4
"""Of every image that is corrupted."""

Split = Any


def uncertainty(
    run: Representation,
    *,
    human_labels: str | Path | None = None,
    num_images: int = 1000,
    folder: str | Path | None = None,
) -> Result:
    """Run uncertainty-v2 on a run's test split and write the result.

    The uncertainties are ``posterior`` (``method.uncertainty``, if the method has one), ``knn``
    and ``mahalanobis`` (distances to the training features), ``probe-entropy`` and, of a run with a
    joint posterior, ``joint-knn`` (distance to the training images in what views share).

    Args:
        run: As :func:`vje_pyro.load` returns it.
        human_labels: ``cifar10h.npz``; None takes the file in the data root, if it exists and
            the run's data are CIFAR-10.
        num_images: Test images to corrupt, to crop, and to make views of.
        folder: Where to write; ``RUN/results`` when None.

    Raises:
        DataError: If a split is missing.
        VJEError: If there are human labels, but the run's data are not CIFAR-10.
        LeftOut: If figures were skipped, such as those that need labels; the others are written.
        WriteError: If the folder cannot be written.

    Example:
        >>> result = uncertainty(run)  # doctest: +SKIP
        >>> result.figures["r-auroc_posterior"].value  # doctest: +SKIP
        0.61
    """
    if human_labels is not None and not isinstance(run.source, CIFAR10):
        raise VJEError(f"CIFAR-10H labels the test images of CIFAR-10, not {run.source.name}.")
    out = output_folder(run.directory.results, folder)
    start = time.perf_counter()
    splits = [run.source.split(name) for name in ("train", "test")]
    train, test = (extract(run.method, split, run.normalize, device=run.device) for split in splits)
    detectors: dict[str, Callable[..., Any]] = {n: d(train.x) for n, d in FEATURE_DETECTORS.items()}
    if run.directory.joint_posterior.is_file():
        detectors["joint-knn"] = _joint_distance(run.joint_posterior_model, train.x)
    parts, figures = Parts(), {}
    errors: dict[str, NDArray[np.bool_]] = {}
    with parts.part("aurc (errors of kNN and of the linear probe)"):
        errors, detectors["probe-entropy"] = _errors(train, test)
    known = np.isin(test.y, train.y[train.y >= 0])

    def score(split: Split) -> OutlierScores:
        x = extract(run.method, split, run.normalize, device=run.device).x
        scores = {name: detect(x) for name, detect in detectors.items()}
        return (posterior_spread(run, split) | scores) if _has_posterior(run) else scores

    scores = score(splits[1])
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(splits[1]))[:num_images])
    for classifier, wrong in errors.items():
        for name, values in scores.items():
            with parts.part(f"aurc_{classifier}_{name}"):
                figures[f"aurc_{classifier}_{name}"] = aurc_figure(wrong, values[known])
    with parts.part("human"):
        figures |= _human_figures(run, human_labels, scores)
    images, kept = select_images(splits[1], chosen, run.source.channels, run.source.image_size)
    labels = torch.as_tensor(splits[1].labels)[kept]

    def score_images(pictures: Tensor) -> OutlierScores:
        return score(ImageArray(pictures, labels))

    whole = score_images(images)
    figures |= _severity_figures(score_images, images, whole, parts)
    with parts.part("crops"):
        figures |= _crop_figures(score_images, images, whole)
    details: dict[str, Any] = {}
    labelled = test.y >= 0
    judged = {name: (known, wrong) for name, wrong in errors.items()}
    with parts.part("r-auroc (errors of the nearest neighbour)"):
        wrong = nearest_neighbour_errors(test.x[labelled], test.y[labelled])
        judged[NEIGHBOUR] = labelled, wrong
        neighbours, details = _neighbour_figures(scores, labelled, wrong)
        figures |= neighbours
    calibration, missing = _calibration(run, num_images)
    figures |= calibration
    with parts.part("views"):
        try:
            rows = _rows(splits[1], kept.numpy())
            of_images = {name: _of_chosen(rows, *both) for name, both in judged.items()}
            figures |= view_figures(run, images, of_images, SEED)
        except VJEError as error:
            missing |= {"no_views": str(error)}
    result = Result(
        protocol=PROTOCOL,
        dataset={
            "name": run.source.name,
            "train": len(train),
            "test": len(test),
            "classes": int(np.unique(train.y).size),
            "digest": {"train": train.digest, "test": test.digest},
        },
        method=type(run.method).__name__,
        features="encoder",
        figures=figures,
        seed=run.info["seed"],
        settings={
            "k": default_k(len(train)),
            "resamples": RESAMPLES,
            "corrupted_images": len(images),
            "crops": CROPS,
            "crop_sides": list(SIDES),
            "views": list(VIEWS),
            "corruptions": {name: list(strengths) for name, (_, strengths) in CORRUPTIONS.items()},
            "seed": SEED,
        },
        config=run.config,
        details=selective_details(errors) | details | missing | _left_out(parts),
        device=str(run.device),
        wall_time_s=round(time.perf_counter() - start, 3),
    )
    if figures:
        result.write(out / f"{PROTOCOL}.json")
    parts.finish(result if figures else None)
    return result


def _left_out(parts: Parts) -> dict[str, Any]:
    return {"left_out": parts.left_out} if parts.left_out else {}


def _joint_distance(model: ManyViews, bank: NDArray[np.float32]) -> Callable[..., Any]:
    """Distance to the fifth training image, in :meth:`ManyViews.shared`; no labels are used."""

    @torch.no_grad()
    def shared(x: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = model.shared(torch.from_numpy(x)).numpy()
        return found

    distance = KNNDistance(shared(bank), k=min(5, len(bank)))
    return lambda x: distance(shared(x))


def _errors(
    train: Features, test: Features
) -> tuple[dict[str, NDArray[np.bool_]], Callable[..., Any]]:
    """Which test images of known classes kNN and the probe get wrong, and the probe's entropy."""
    train, test, _ = usable(train, test)
    probe = fit_linear(train.x, train.y)
    bank, labels, queries = (torch.from_numpy(a) for a in (train.x, train.y, test.x))
    predicted = {
        "knn": knn_predict(bank, labels, queries, default_k(len(train))).numpy(),
        "linear": probe.predict(test.x),
    }
    return {name: y != test.y for name, y in predicted.items()}, probe_entropy(probe)


def posterior_spread(run: Representation, split: Split) -> OutlierScores:
    """``method.uncertainty`` of every image of a split, named ``posterior``."""
    uncertainty = require(run.method, ProbabilisticMethod).uncertainty

    def column(images: Tensor) -> Tensor:
        return uncertainty(images)[:, None]

    spread = extract(run.method, split, run.normalize, device=run.device, features=column).x[:, 0]
    return {"posterior": spread.astype(np.float64)}


def _has_posterior(run: Representation) -> bool:
    return isinstance(run.method, ProbabilisticMethod)


def _human_figures(
    run: Representation, path: str | Path | None, scores: OutlierScores
) -> dict[str, Figure]:
    """``human_NAME``: rank correlation with the entropy of human labels."""
    source = run.source
    if not isinstance(source, CIFAR10):
        return {}
    file = Path(source.root) / "cifar10h.npz" if path is None else Path(path)
    if path is None and not file.is_file():
        return {}
    entropy = read_label_entropy(file)[source.positions("test")].numpy()
    return {f"human_{name}": spearman_figure(values, entropy) for name, values in scores.items()}


def _neighbour_figures(
    scores: OutlierScores, labelled: NDArray[np.bool_], wrong: NDArray[np.bool_]
) -> tuple[dict[str, Figure], dict[str, Any]]:
    """``r-auroc_NAME``, or why there is none; and recall@1 as a detail."""
    details: dict[str, Any] = {"recall_at_1": float(1 - wrong.mean())}
    try:
        return r_auroc_figures({n: v[labelled] for n, v in scores.items()}, wrong), details
    except VJEError as error:
        return {}, details | {"no_r_auroc": str(error)}


def _rows(split: Split, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where features and scores of a split have these readable images: damaged ones have no row."""
    names = enumerate(getattr(split, "names", ()))
    damaged = [index for index, name in names if name in split.corrupt]
    rows: NDArray[np.int64] = indices - np.searchsorted(damaged, indices)
    return rows


def _of_chosen(
    rows: NDArray[np.int64], counted: NDArray[np.bool_], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Errors of some test images, from those of all images that are counted."""
    which = np.flatnonzero(counted[rows])
    return which, wrong[(counted.cumsum() - 1)[rows[which]]]


_ScoreImages = Callable[[Tensor], OutlierScores]
"""Uncertainties of uint8 images."""


def _severity_figures(
    score: _ScoreImages, images: Tensor, whole: OutlierScores, parts: Parts
) -> dict[str, Figure]:
    """``severity_CORRUPTION_NAME``: rank correlation with the severity, 0 (none) to 5."""
    severities = np.array([0, *SEVERITIES])
    figures = {}
    for corruption in CORRUPTIONS:
        spoiled = (score(corrupt(images, corruption, s, SEED)) for s in SEVERITIES)
        levels = [whole, *spoiled]
        for name in whole:
            values = np.stack([level[name] for level in levels], axis=1)
            severity = np.broadcast_to(severities, values.shape)
            with parts.part(f"severity_{corruption}_{name}"):
                figures[f"severity_{corruption}_{name}"] = spearman_figure(values, severity)
    return figures


def _crop_figures(score: _ScoreImages, images: Tensor, whole: OutlierScores) -> dict[str, Figure]:
    """``crop_NAME``: how often a crop is less certain than the whole image."""
    crops = [score(random_crops(images, SEED + crop)) for crop in range(CROPS)]
    return {
        f"crop_{name}": crop_figure(values, np.stack([crop[name] for crop in crops], axis=1))
        for name, values in whole.items()
    }


def _calibration(run: Representation, num_images: int) -> tuple[dict[str, Figure], dict[str, str]]:
    """Calibration error of the predicted angle between views; or why there is none."""
    try:
        require_posterior(run.method)
        angle = predictive_check(split_pairs(run, "test", num_images, SEED, SEED), seed=SEED).angle
    except VJEError as error:
        return {}, {"no_calibration": str(error)}
    return {"calibration_angle": expected_coverage(angle.pit, angle.images).error}, {}
