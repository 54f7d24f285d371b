"""What a study measures of a run, by protocol.

Beside the protocols of ``vje evaluate``, which read the features of the test split: the same on the
validation split (``knn-validation-v1``), what the logs say (``training-v1``), what the latent is
used for (``latent-v1``), how much of it the posterior knows (``signal-v1``), detection of other
data and of other classes (``ood-v1``, ``one-class-v1``), uncertainty (``uncertainty-v2``), the
posterior (``diagnostics-v2``), the joint posterior (``many-views-v2``), the choice of an outlier
score on training images (``outlier-choice-v1``), errors told by the spread of views
(``view-spread-v1``). Nothing is trained for the fast paths of a GPU
(``correctness-v1``) and the cost of a step (``throughput-v1``).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.throughput import throughput
from studies.fast_paths import fast_paths
from studies.outlier_choice import outlier_choice
from studies.store import Record, diagnosis
from studies.study import SEARCH, Task
from studies.view_noise import view_noise
from studies.view_spread import view_spread
from vje_pyro.diagnostics import latent_usage
from vje_pyro.distributions.moments import moments
from vje_pyro.errors import LeftOut
from vje_pyro.evaluation import Figure, Result, evaluate, extract
from vje_pyro.joint_posterior import check_joint_posterior, fit_joint_posterior
from vje_pyro.reading import read_csv
from vje_pyro.run import Representation, load
from vje_pyro.statistics import bootstrap_mean
from vje_pyro.training.run_json import read_run_json
from vje_pyro.verbs.compare import train_seed
from vje_pyro.verbs.detect import detect
from vje_pyro.verbs.diagnose import diagnose
from vje_pyro.verbs.evaluate import evaluate as evaluate_run
from vje_pyro.verbs.one_class import one_class
from vje_pyro.verbs.pairs import split_pairs
from vje_pyro.verbs.uncertainty import uncertainty

FEATURES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "encoder": lambda method, images: method.embed(images),
    "backbone": lambda method, images: method.encoder.backbone(images).float(),
    "batch-norm": lambda method, images: method.encode(images),
    "posterior-mean": lambda method, images: moments(method.posterior(images))[0],
}
"""Where the features of a run can be read on the validation split."""

LATENT_FIGURES = ("kl", "mutual_information", "latent_gain", "scale_gain")
LATENT_IMAGES = 100
CHECKS, HELDOUT, TRAIN = ("latent", "importance", "temperature"), 500, 2000
"""Of a diagnosis: images that are judged, and that the temperature is fitted on."""


@dataclass
class Trained:
    """A training and where it computes; it is trained, or finished, when its run is asked for.

    Args:
        path: Run directory.
        seed: Of the training.
        overrides: Of the training.
        device: Where its features are computed.
        data_root: Folder of the data sets.
        records: Results of the same variant and seed.
    """

    path: Path
    seed: int
    overrides: Sequence[str]
    device: str
    data_root: Path
    records: list[Record]

    @cached_property
    def run(self) -> Representation:
        """The run, in a process of its own; the same is not trained twice."""
        train_seed(self.path, self.seed, self.overrides)
        rooted = "root" in read_run_json(self.path)["config"]["data"]
        return load(self.path, device=self.device, data_root=self.data_root if rooted else None)

    def like(self, protocol: str, figures: dict[str, Figure], details: dict[str, Any]) -> Result:
        """A result of the run, on the data that its kNN accuracy is of."""
        (known,) = [r.result for r in self.records if r.key[1:3] == ("knn-v1", "encoder")]
        return Result(
            protocol, known.dataset, known.method, "encoder", figures, self.seed,
            config=self.run.config, details=details, device=self.device,
        )  # fmt: skip


def measure(trained: Trained, tasks: Iterable[Task]) -> Iterator[Result]:
    """The results of tasks; features are computed once for protocols that stand together."""
    for (function, features), group in groupby(tasks, key=lambda t: (kind(t.protocol), t.features)):
        try:
            yield from function(trained, features, list(group))
        except LeftOut as error:
            print(error)
            found = error.results
            yield from found.values() if isinstance(found, dict) else np.atleast_1d(found)


def _standard(trained: Trained, features: str, tasks: list[Task]) -> list[Result]:
    return evaluate_run(trained.run, [task.protocol for task in tasks], features=features)


def _validation(trained: Trained, features: str, tasks: list[Task]) -> list[Result]:
    """Protocols where the validation split takes the place of the test split.

    It is made of training images that no run of the study trains on; those it trains on are the
    bank.
    """
    run = trained.run
    bank, queries = (
        extract(run.method, run.source.split(split), run.normalize, device=run.device,
                features=partial(FEATURES[features], run.method))
        for split in ("train", "validation")
    )  # fmt: skip
    names = {task.protocol.replace("-validation", ""): task.protocol for task in tasks}
    results = evaluate(
        bank, queries, dataset=f"{run.source.name}, validation split",
        method=type(run.method).__name__, features=features, seed=trained.seed,
        config=run.config, protocols=list(names), device=run.device,
    )  # fmt: skip
    for result in results:
        result.protocol = names[result.protocol]
    return results


def _search(trained: Trained, features: str, tasks: list[Task]) -> list[Result]:
    """kNN on the validation split, under a name that no table takes for a test result."""
    (result,) = _validation(trained, features, [Task(features, "knn-validation-v1")])
    result.protocol = SEARCH
    result.settings["rate"] = float(tasks[0].part)
    return [result]


def _training(trained: Trained, *_: Any) -> list[Result]:
    """Cost and state of a run at its end, from its logs.

    Figures are ``step_ms``, ``minutes``, ``rankme``, ``peak_memory_mib`` and, of a probabilistic
    method, ``active_units`` (share of the latent features) and ``kl`` (nats per datum, averaged
    over the last epoch); what is not in the logs is left out.
    """
    directory = trained.run.directory
    steps, epochs = _columns(directory.steps), _columns(directory.epochs)
    batch_size = trained.run.config["loader"]["batch_size"]
    milliseconds = 1000 * batch_size / steps["images_per_second"]
    low, middle, high = map(float, np.quantile(milliseconds, [0.25, 0.5, 0.75]))
    figures = {
        "step_ms": Figure(middle, low, high, len(milliseconds), "quartiles over log intervals"),
        "minutes": Figure.point(epochs["time"][-1] / 60, interval="one run"),
    }
    names = {"rankme": "rankme", "peak_memory": "peak_memory_mib", "active_units": "active_units"}
    for column, name in names.items():
        if column in epochs and np.isfinite(epochs[column][-1]):
            figures[name] = Figure.point(epochs[column][-1], interval="one run")
    if "kl" in steps:
        last = steps["kl"][steps["epoch"] == steps["epoch"][-1]]
        figures["kl"] = Figure.point(last.mean(), interval="one run")
    return [trained.like("training-v1", figures, {"threads": torch.get_num_threads()})]


def _columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a log as floats; what is no number is NaN."""
    rows = read_csv(path)
    return {name: np.array([_number(row[name]) for row in rows]) for name in rows[0]}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _latent(trained: Trained, *_: Any) -> list[Result]:
    """What the latent is used for, in nats per datum, on pairs of views of test images."""
    pairs = split_pairs(trained.run, "test", LATENT_IMAGES, seed=0)
    summary = latent_usage(pairs).summary()
    return [trained.like("latent-v1", {n: Figure(**summary[n]) for n in LATENT_FIGURES}, {})]


def _signal(trained: Trained, *_: Any) -> list[Result]:
    """``signal`` of the posterior and ``second_moment`` of a feature (studies/signal_theory.py);
    ``cosine`` of two views."""
    run = trained.run
    pairs = split_pairs(run, "test", HELDOUT, seed=0)
    first, second = pairs.embeddings[:2]
    known = pairs.posterior.mean.square().sum(-1)
    length = known + pairs.posterior.variance.sum(-1)
    values = {
        "signal": (known / length).sqrt().unflatten(0, (2, -1)).mean(0),
        "second_moment": length.unflatten(0, (2, -1)).mean(0) / run.method.num_features,
        "cosine": torch.cosine_similarity(first, second, dim=-1),
    }
    return [
        Result(
            "signal-v1", {"name": run.source.name, "split": "test", "images": HELDOUT},
            type(run.method).__name__, "encoder",
            {name: bootstrap_mean(value) for name, value in values.items()},
            trained.seed, settings={"seed": 0}, config=run.config, device=trained.device,
        )
    ]  # fmt: skip


def _joint_posterior(trained: Trained, *_: Any) -> list[Result]:
    fit_joint_posterior(trained.run)
    return [check_joint_posterior(trained.run)]


def _ood(trained: Trained, _: str, tasks: list[Task]) -> Iterable[Result]:
    return detect(trained.run, [task.part for task in tasks], root=trained.data_root).values()


def _uncertainty(trained: Trained, *_: Any) -> list[Result]:
    human = trained.data_root / "cifar10h.npz"
    there = trained.run.source.name == "cifar10" and human.is_file()
    return [uncertainty(trained.run, human_labels=human if there else None)]


def _diagnostics(trained: Trained, *_: Any) -> list[Result]:
    return [diagnosis(diagnose(trained.run, CHECKS, num_images=HELDOUT, num_train=TRAIN))]


def _one_class(trained: Trained, *_: Any) -> list[Result]:
    overrides = [*trained.overrides, f"seed={trained.seed}"]
    return [one_class(overrides, trained.path.with_name(f"{trained.path.name}-one-class"))]


def _outlier_choice(trained: Trained, *_: Any) -> list[Result]:
    return [outlier_choice(trained.run)]


def _view_spread(trained: Trained, *_: Any) -> list[Result]:
    return [view_spread(trained.run)]


def _view_noise(trained: Trained, *_: Any) -> list[Result]:
    return [view_noise(trained.run)]


def _correctness(trained: Trained, _: str, tasks: list[Task]) -> Iterator[Result]:
    return fast_paths([task.part for task in tasks], torch.device(trained.device))


def _throughput(trained: Trained, _: str, tasks: list[Task]) -> Iterator[Result]:
    for task in tasks:
        yield throughput(trained.path.parent.name, task.part, torch.device(trained.device))


OTHERS: dict[str, Callable[..., Iterable[Result]]] = {
    "training-v1": _training, "latent-v1": _latent, "ood-v1": _ood, "uncertainty-v2": _uncertainty,
    "signal-v1": _signal, "many-views-v2": _joint_posterior,
    "diagnostics-v2": _diagnostics, "one-class-v1": _one_class, SEARCH: _search,
    "outlier-choice-v1": _outlier_choice, "view-spread-v1": _view_spread,
    "view-noise-v1": _view_noise,
    "correctness-v1": _correctness,
    "throughput-v1": _throughput,
}  # fmt: skip


def kind(protocol: str) -> Callable[..., Iterable[Result]]:
    """What measures a protocol."""
    standard = _validation if "-validation-" in protocol else _standard
    return OTHERS.get(protocol, standard)
