"""A run as the report sees one: digits through a small method, with logs and results."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn

from vje_pyro.encoders import Identity
from vje_pyro.errors import DataError
from vje_pyro.evaluation.result import Figure, Result
from vje_pyro.inference import EmbeddingModel
from vje_pyro.method import Method
from vje_pyro.report import write_report

FEATURES = 24
EPOCHS = 20


@dataclass(frozen=True)
class FakeArray:
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class FakeSource:
    splits: dict[str, FakeArray]
    name: str = "digits"
    channels: int = 1
    image_size: int = 8
    num_classes: int = 10

    def split(self, name: str) -> FakeArray:
        if name not in self.splits:
            raise DataError(f"digits has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]


class Baseline(Method):
    """Principal components with a fixed nonlinearity: an embedding without a posterior."""

    loss = None

    def __init__(self, images: Tensor) -> None:
        super().__init__(Identity(FEATURES))
        flat = images.flatten(1).double().numpy() / 255
        pca = PCA(FEATURES, random_state=0).fit(flat)
        self.encoder = nn.Linear(flat.shape[1], FEATURES)
        with torch.no_grad():
            self.encoder.weight.copy_(torch.from_numpy(pca.components_))
            self.encoder.bias.copy_(-torch.from_numpy(pca.components_ @ pca.mean_))

    def embed(self, images: Tensor) -> Tensor:
        assert not self.training
        return torch.tanh(1.5 * self.encoder(images.flatten(1)))


class Probabilistic(Baseline, EmbeddingModel):
    """The same with a posterior whose scale grows where an image is far from the components."""

    infer = generate = approximate = None

    def posterior(self, images: Tensor) -> dist.Independent:
        embedding = self.embed(images)
        rebuilt = torch.addmm(
            images.flatten(1).mean(0), self.encoder(images.flatten(1)), self.encoder.weight
        )
        error = (rebuilt - images.flatten(1)).norm(dim=1, keepdim=True)
        scale = 0.15 + 0.9 * torch.sigmoid(error - 2 + torch.linspace(-2, 2, FEATURES))
        return dist.Normal(embedding, scale).to_event(1)

    def prior_distribution(self) -> dist.Independent:
        return dist.Normal(torch.zeros(FEATURES), 1.0).to_event(1)


@dataclass
class FakeRun:
    path: Path
    config: dict[str, Any]
    info: dict[str, Any]
    method: Any
    source: Any
    device: str = "cpu"

    def normalize(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        return images.float() / 255


def digits(small: bool) -> FakeSource:
    """Digits; in the small form a map is the two principal components, without t-SNE."""
    data = load_digits()
    images = torch.from_numpy((data.images * 255 / 16).astype(np.uint8))[:, None]
    labels = torch.from_numpy(data.target).long()
    classes = tuple(str(digit) for digit in range(10))
    train, test = (slice(0, 120), slice(120, 165)) if small else (slice(0, 1400), slice(1400, None))
    parts = {"pretrain": train, "train": train, "test": test}
    return FakeSource({k: FakeArray(images[s], labels[s], classes) for k, s in parts.items()})


def write_logs(path: Path, alarm: str = "", epoch: int = 3, short: bool = True) -> None:
    """Logs in the format of the trainer, with plausible values; in the short form few columns."""
    rng = np.random.default_rng(0)
    last, steps, epochs = 2000, [], []
    for step in range(10, last + 1, 10):
        done = step / last
        decay = np.exp(-4 * done)
        kl = 14 + 9 * (1 - decay) + rng.normal(0, 0.3)
        direction, radius = 41 - 60 * decay + rng.normal(0, 0.7), -1.4 - 3 * decay
        elbo = direction + radius - kl - (4000 if step == 10 else 0)
        row = {"step": step, "epoch": step // 100, "time": 0.04 * step, "elbo": elbo}
        row |= {} if short else {"direction": direction, "radius": radius, "kl": kl}
        row |= {} if short else {"images_per_second": 6000 + rng.normal(0, 90)}
        row |= {} if short else {"lr": 2e-3 * min(1, 20 * done) * (0.5 + 0.5 * np.cos(3.14 * done))}
        row |= {} if short else {"loss": -elbo / FEATURES, "angle": 24 + 60 * decay}
        row |= {} if short else {"scale_mean": 0.35 + 0.6 * decay, "scale_std": 0.1 + 0.05 * done}
        row |= {} if short else {"clamp_fraction": 0.02 * decay, "grad_norm": rng.gamma(2, 0.4)}
        steps.append(row)
    for number in range(1, EPOCHS + 1):
        rise = 1 - np.exp(-number / 4)
        row = {"epoch": number, "step": 100 * number, "time": 4 * number, "knn": 0.5 + 0.4 * rise}
        row |= {"rankme": 6 + 13 * rise}
        row |= {} if short else {"active_units": rise, "embedding_std": 0.9}
        epochs.append(row | {"alarms": alarm if number == epoch else ""})
    (path / "logs").mkdir(parents=True, exist_ok=True)
    for name, rows in (("steps", steps), ("epochs", epochs)):
        with (path / "logs" / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def write_results(path: Path) -> None:
    def result(protocol: str, figures: dict[str, Figure], settings: dict[str, Any]) -> None:
        dataset = {"name": "digits", "train": 1400, "test": 397, "digest": "0" * 64}
        Result(
            protocol=protocol,
            dataset=dataset,
            method="vje",
            features="encoder",
            figures=figures,
            seed=0,
            settings=settings,
            commit="c47b924",
            versions={"torch": "2.14.1"},
        ).write(path / "results" / f"{protocol}.json")

    over_images, over_draws = "95% bootstrap over test images", "95% t-interval over 10 draws"
    result("knn-v1", {"accuracy": Figure(0.9471, 0.9244, 0.9673, 397, over_images)}, {"k": 20})
    result("linear-v1", {"accuracy": Figure(0.9345, 0.9093, 0.9572, 397, over_images)}, {"C": 1.0})
    few = {
        "accuracy_1": Figure(0.7012, 0.6631, 0.7393, 10, over_draws),
        "accuracy_5": Figure(0.9127, 0.9011, 0.9243, 10, over_draws),
        "accuracy_10": Figure(0.9411, 0.9362, 0.9460, 10, over_draws),
    }
    result("few-label-v1", few, {"labels": [1, 5, 10], "draws": 10})


def write_diagnosis(path: Path) -> None:
    """What ``vje diagnose`` writes of one check."""
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
    importance = dict.fromkeys(("pareto_k_above_0.7", "ess_fraction", "elbo_to_bound"), figure)
    importance |= {"bounds": {str(k): figure for k in (1, 10, 100)}}
    text = "k-hat is 2.99 in the median, above 0.7: weights cannot correct the guide."
    importance |= {"verdict": {"flagged": True, "text": text}}
    content = {"schema": "vje-pyro-diagnostics", "schema_version": 2, "seed": 0, "created": "now"}
    content |= {"images": {"heldout": 20, "train": 40}, "checks": {"importance": importance}}
    folder = path / "diagnostics"
    folder.mkdir()
    (folder / "diagnostics.json").write_text(json.dumps(content))
    k_hat = np.random.default_rng(0).normal(2.9, 0.5, 40)
    np.savez(folder / "arrays.npz", **{"importance/pareto_k": k_hat})


def make_run(path: Path, *, probabilistic: bool = True, small: bool = True) -> FakeRun:
    """A run directory with logs and results, and the object that stands for it."""
    torch.manual_seed(0)
    source = digits(small)
    method = (Probabilistic if probabilistic else Baseline)(source.splits["train"].images)
    config = {
        "seed": 0,
        "method": {
            "_target_": "vje_pyro.models.vje.VJE",
            "beta": 1.0,
            "direction": {"_target_": "vje_pyro.distributions.SphericalStudentT", "df": 1.0},
            "radius": {"_target_": "vje_pyro.distributions.RadialStudentT", "df": 5.0},
            "guide": {"_target_": "vje_pyro.guides.DiagonalNormal", "hidden": 64},
        },
        "data": {"_target_": "vje_pyro.data.Digits", "root": None},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.002, "weight_decay": 1e-4},
        "training": {"epochs": EPOCHS},
        "device": {"precision": "32-true"},
        "monitor": {"batch_size": 512},
        "loader": {"batch_size": 128},
    }
    info = {
        "command": ["/somewhere/bin/vje", "train", "experiment=digits", "data.root=my data"],
        "seed": 0,
        "commit": "c47b9240f1",
        "created": "2026-02-12T10:00:00+00:00",
        "versions": {"vje-pyro": "0.1.0", "torch": "2.14.1"},
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps(info))
    write_logs(path, short=small)
    write_results(path)
    return FakeRun(path, config, info, method.train(), source)


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    """A small run of a probabilistic method."""
    return make_run(tmp_path / "run")


@pytest.fixture
def baseline(tmp_path: Path) -> FakeRun:
    """A small run of a method without a posterior."""
    return make_run(tmp_path / "run", probabilistic=False)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """A run with all images, all logs and a diagnosis; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("report") / "run", small=False)
    write_diagnosis(run.path)
    return run


@pytest.fixture(scope="session")
def report(full: FakeRun) -> Path:
    """The report of the full run; not to be changed."""
    return write_report(full)


@pytest.fixture
def log_alarm() -> Callable[..., None]:
    """Writes the logs of a run again, with an alarm: ``log_alarm(path, text, epoch)``."""
    return write_logs
