"""Is a run's uncertainty any use? ``vje uncertainty RUN`` checks it.

Writes ``RUN/results/uncertainty-v1.json``: area under the risk–coverage curve of the errors of kNN
and of the linear probe, rank correlation with people's doubts (CIFAR-10H) and with the severity of
corruptions, and the calibration error of the predicted angle between views.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vje_pyro.experiments.arguments import add_run_arguments, load_run
from vje_pyro.experiments.diagnose import split_pairs

from vje_pyro.data import CIFAR10, ImageArray, read_label_entropy, select_images
from vje_pyro.diagnostics import predictive_check, require_posterior
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result, extract, knn_predict
from vje_pyro.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from vje_pyro.evaluation.detection import OutlierScores
from vje_pyro.evaluation.detectors import FEATURE_DETECTORS
from vje_pyro.evaluation.knn import default_k
from vje_pyro.evaluation.labelled_detectors import probe_entropy
from vje_pyro.evaluation.linear import fit_linear
from vje_pyro.evaluation.protocols import check_splits
from vje_pyro.evaluation.risk_coverage import RESAMPLES
from vje_pyro.evaluation.uncertainty import (
    calibration_figure,
    selective_details,
    selective_figures,
    spearman_figure,
)
from vje_pyro.run import Representation

SEED = 0
"""Of the choice of images, their corruptions, views and draws."""

Split = Any


def uncertainty_run(
    run: Representation, human_labels: str | Path | None = None, num_images: int = 1000
) -> Result:
    """Run uncertainty-v1 on a run's test split and write the result.

    The uncertainties are ``posterior`` (``method.uncertainty``, where the method has one), ``knn``
    and ``mahalanobis`` (distances to the training features) and ``probe-entropy``.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        human_labels: ``cifar10h.npz``; None takes that in the data root, if it is there and the
            run's data are CIFAR-10.
        num_images: Test images that are corrupted, and whose views are predicted.

    Raises:
        DataError: If a split is missing or unlabelled, or the human labels cannot be read.
        VJEError: If there are human labels, but the run's data are not CIFAR-10.
    """
    start = time.perf_counter()
    splits = [run.source.split(name) for name in ("train", "test")]
    train, test = (extract(run.method, split, run.normalize, device=run.device) for split in splits)
    check_splits(train, test)
    probe = fit_linear(train.x, train.y)
    k = default_k(len(train))
    bank, labels, queries = (torch.from_numpy(a) for a in (train.x, train.y, test.x))
    errors = {
        "knn": knn_predict(bank, labels, queries, k).numpy() != test.y,
        "linear": probe.predict(test.x) != test.y,
    }
    detectors: dict[str, Callable[..., Any]] = {n: d(train.x) for n, d in FEATURE_DETECTORS.items()}
    detectors["probe-entropy"] = probe_entropy(probe)

    def score(split: Split) -> OutlierScores:
        x = extract(run.method, split, run.normalize, device=run.device).x
        scores = {name: detect(x) for name, detect in detectors.items()}
        return (posterior_spread(run, split) | scores) if _has_posterior(run) else scores

    scores = score(splits[1])
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(splits[1]))[:num_images])
    figures = selective_figures(scores, errors)
    figures |= _human_figures(run, human_labels, scores)
    figures |= _severity_figures(run, score, splits[1], chosen)
    calibration, missing = _calibration(run, num_images)
    result = Result(
        protocol="uncertainty-v1",
        dataset={
            "name": run.source.name,
            "train": len(train),
            "test": len(test),
            "classes": int(np.unique(train.y).size),
            "digest": {"train": train.digest, "test": test.digest},
        },
        method=type(run.method).__name__,
        features="encoder",
        figures=figures | calibration,
        seed=run.info["seed"],
        settings={
            "k": k,
            "resamples": RESAMPLES,
            "corrupted_images": len(chosen),
            "corruptions": {name: list(strengths) for name, (_, strengths) in CORRUPTIONS.items()},
            "seed": SEED,
        },
        config=run.config,
        details=selective_details(errors) | missing,
        device=str(run.device),
        wall_time_s=round(time.perf_counter() - start, 3),
    )
    result.write(run.path / "results" / "uncertainty-v1.json")
    return result


def posterior_spread(run: Representation, split: Split) -> OutlierScores:
    """``method.uncertainty`` of every image of a split, named ``posterior``."""
    values = _Uncertainty(run.method)
    spread = extract(values, split, run.normalize, device=run.device).x[:, 0]
    return {"posterior": spread.astype(np.float64)}


class _Uncertainty(torch.nn.Module):
    """A method whose features are its uncertainty: it goes through the one path of features."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def embed(self, images: Tensor) -> Tensor:
        values: Tensor = self.method.uncertainty(images)
        return values[:, None]


def _has_posterior(run: Representation) -> bool:
    return hasattr(run.method, "uncertainty")


def _human_figures(
    run: Representation, path: str | Path | None, scores: OutlierScores
) -> dict[str, Figure]:
    """``human_NAME``: rank correlation with the entropy of people's labels."""
    source = run.source
    if not isinstance(source, CIFAR10):
        if path is not None:
            raise VJEError(f"CIFAR-10H labels the test images of CIFAR-10, not {source.name}.")
        return {}
    file = source.root / "cifar10h.npz" if path is None else Path(path)
    if path is None and not file.is_file():
        return {}
    entropy = read_label_entropy(file)[source.positions("test")].numpy()
    return {f"human_{name}": spearman_figure(values, entropy) for name, values in scores.items()}


def _severity_figures(
    run: Representation,
    score: Callable[[ImageArray], OutlierScores],
    split: Split,
    chosen: NDArray[np.int64],
) -> dict[str, Figure]:
    """``severity_CORRUPTION_NAME``: rank correlation with the severity, 0 (none) to 5."""
    images, kept = select_images(split, chosen, run.source.channels, run.source.image_size)
    labels = torch.as_tensor(split.labels)[kept]
    severities = np.array([0, *SEVERITIES])
    clean = score(ImageArray(images, labels))
    figures = {}
    for corruption in CORRUPTIONS:
        spoiled = (corrupt(images, corruption, s, SEED) for s in SEVERITIES)
        levels = [clean, *(score(ImageArray(pictures, labels)) for pictures in spoiled)]
        for name in clean:
            values = np.stack([level[name] for level in levels], axis=1)
            severity = np.broadcast_to(severities, values.shape)
            figures[f"severity_{corruption}_{name}"] = spearman_figure(values, severity)
    return figures


def _calibration(run: Representation, num_images: int) -> tuple[dict[str, Figure], dict[str, str]]:
    """Calibration error of the predicted angle between views; or why there is none."""
    try:
        require_posterior(run.method)
        angle = predictive_check(split_pairs(run, "test", num_images, SEED, SEED), seed=SEED).angle
    except VJEError as error:
        return {}, {"no_calibration": str(error)}
    return {"calibration_angle": calibration_figure(angle.pit, angle.images)}, {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and check."""
    parser = argparse.ArgumentParser(prog="vje uncertainty", description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--cifar10h", help="human labels (default: cifar10h.npz in the data root)")
    parser.add_argument("--images", type=int, default=1000, help="to corrupt (default 1000)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run = load_run(options)
    result = uncertainty_run(run, options.cifar10h, options.images)
    for name, figure in result.figures.items():
        print(f"{name:40} {figure.value:7.4f}  [{figure.low:.4f}, {figure.high:.4f}]")
    for name, value in result.details.items():
        print(f"{name:40} {value}")
    print(f"result in {run.path / 'results'}")
