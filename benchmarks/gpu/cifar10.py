"""Steps ``cifar10-…``, ``ood``, ``uncertainty`` and ``one-class``: ResNet-18 on CIFAR-10."""

from pathlib import Path
from typing import Any

import numpy as np
from ood import stem
from study import run_seed, scrubbed
from training_logs import training_result
from vje_pyro.experiments.one_class import one_class as train_one_class
from vje_pyro.experiments.ood import ood_run
from vje_pyro.experiments.uncertainty import PROTOCOL, uncertainty_run

from gpu.context import Context
from gpu.figures import merged
from gpu.report import Outcome
from gpu.studies import best_rate
from vje_pyro.data import list_outliers
from vje_pyro.evaluation import DEFAULT, Result
from vje_pyro.run import Representation

SEED = 0
METHODS: dict[str, list[str]] = {
    "vje": [],
    "simsiam": ["method=simsiam"],
    "byol": ["method=byol"],
    "vicreg": ["method=vicreg"],
}
"""The experiment's own, which is the recommended VJE, and three methods with their published heads;
all else is common to them."""

SMALL_HEADS = {
    "simsiam": ["method.hidden_dim=32", "method.output_dim=32", "method.predictor_dim=16"],
    "byol": ["method.hidden_dim=32", "method.output_dim=16", "method.predictor_dim=32"],
    "vicreg": ["method.hidden_dim=32", "method.output_dim=32"],
}
RATE_OF = {"vje": "vje-recommended"}
"""Name in the study of methods, where it differs."""

RATE_SCALE = 2
"""From the batch of that study, 64, to that of the experiment, 256: its root, as for Adam."""

DETECTED_AT = 100
"""Epochs of the model that the detection and the uncertainty are measured on."""

CLASSES = (0, 1, 2)
"""Of one-class detection: the first three, not chosen."""

ONE_CLASS_EPOCHS = 100


def name_of(method: str, epochs: int) -> str:
    """Of the step, of its folder of results and of its run."""
    return f"cifar10-{method}-{epochs}"


def train(context: Context, method: str, epochs: int) -> Outcome:
    """Train ResNet-18 with a method and evaluate it: kNN, linear, few labels, cost.

    Every method has the optimiser and views of the experiment, and the learning rate that the step
    ``methods`` found best for it, if it has been run, scaled to this batch.
    """
    run = _trained(context, method, epochs)
    folder = context.results / name_of(method, epochs)
    results = [Result.read(folder / f"{stem(run)}-{protocol}.json") for protocol in DEFAULT]
    results.append(training_result(run.path, results[0]))
    scrubbed(results[-1]).write(folder / results[-1].filename)
    rate = run.config["optimizer"]["lr"]
    settings = {"method": METHODS[method], "epochs": epochs, "learning_rate": rate}
    return Outcome(merged(results), settings, (SEED,))


def _trained(context: Context, method: str, epochs: int, evaluate: bool = True) -> Representation:
    """The run of a step, trained or finished here if it is not."""
    rate = best_rate(context, RATE_OF.get(method, method))
    overrides = [
        *METHODS[method], *context.overrides, "monitor.every_epochs=5",
        *([] if rate is None else [f"optimizer.lr={RATE_SCALE * rate:g}"]),
        *(SMALL_HEADS.get(method, []) if context.tiny else [f"training.epochs={epochs}"]),
    ]  # fmt: skip
    return run_seed(
        context.experiment("cifar10"), f"gpu/{name_of(method, epochs)}", SEED, overrides,
        ["encoder"] if evaluate else [], root=context.root,
    )  # fmt: skip


def ood(context: Context) -> Outcome:
    """Out-of-distribution detection with the model of ``cifar10-vje-100``, every set there is."""
    run = _trained(context, "vje", DETECTED_AT, evaluate=False)
    if context.tiny:
        _write_noise(context.data_root / "ood" / "noise.npz")
    names = list_outliers(context.data_root)
    figures: dict[str, Any] = {}
    for name, result in ood_run(run, names, context.data_root).items():
        scrubbed(result).write(context.results / "ood" / f"{stem(run)}-ood-v1-{name}.json")
        figures |= merged([result], f"{name}_")
    return Outcome(figures, {"sets": names, "epochs": DETECTED_AT}, (SEED,))


def _write_noise(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=np.random.default_rng(0).integers(256, size=(60, 8, 8), dtype=np.uint8))


def uncertainty(context: Context) -> Outcome:
    """Whether the uncertainty of the same model is any use: AURC, human doubt, corruptions."""
    run = _trained(context, "vje", DETECTED_AT, evaluate=False)
    human = context.data_root / "cifar10h.npz"
    with_people = run.source.name == "cifar10" and human.is_file()
    num_images = 60 if context.tiny else 1000
    result = uncertainty_run(run, human if with_people else None, num_images)
    path = context.results / "uncertainty" / f"{stem(run)}-{PROTOCOL}.json"
    scrubbed(result).write(path)
    settings = {"human_labels": with_people, "images": num_images, "epochs": DETECTED_AT}
    return Outcome(merged([result]), settings, (SEED,), result.details)


def one_class(context: Context) -> Outcome:
    """One-class detection: a model of each of three classes, against the other nine."""
    # These trainings have no monitor: there would be one class to tell from itself.
    common = [word for word in context.overrides if not word.startswith("monitor.")]
    overrides = [
        f"experiment={context.experiment('cifar10')}", f"seed={SEED}", *METHODS["vje"],
        *common, *([] if context.tiny else [f"training.epochs={ONE_CLASS_EPOCHS}"]),
    ]  # fmt: skip
    classes = CLASSES[:1] if context.tiny else CLASSES
    result = train_one_class(overrides, context.runs / "one-class", classes)
    path = context.results / "one-class" / result.filename
    scrubbed(result).write(path)
    settings = {**result.settings, "epochs": ONE_CLASS_EPOCHS}
    return Outcome(merged([result]), settings, (SEED,))
