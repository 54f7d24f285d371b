"""Short trainings on digits through the loop, for the tests of the methods."""

import csv
from functools import partial
from types import SimpleNamespace

import pyro
import pytest
import torch
from commandline import TINY, run_cli
from lightning_fabric import Fabric

import vje_pyro
from vje_pyro.data import Digits, Normalize, ResidentLoader, Views
from vje_pyro.encoders import SmallResNet
from vje_pyro.evaluation.knn import knn_accuracy
from vje_pyro.method import evaluating
from vje_pyro.training.loop import Trainer

collect_ignore = ["fake_gpu.py", "several.py", "small.py"]  # no doctests in there

SOURCE = Digits()
IMAGES = partial(Views, 8, SOURCE.mean, SOURCE.std, flip=0, jitter=0, grayscale=0)


def encoder():
    """A small one of 32 features; the same one at every call."""
    torch.manual_seed(0)
    return SmallResNet(1, widths=(16, 32), stem_width=8)


def train(method, run_dir, epochs, resume=False, fail_at=None):
    """Train in place, 11 steps an epoch; gives the losses of the epochs."""
    views, calls = IMAGES(crop_scale=(0.4, 1.0)), []

    def make_views(images):
        calls.append(1)
        if len(calls) == fail_at:
            raise RuntimeError("stopped by the test")
        return views(images)

    Trainer(
        method,
        ResidentLoader(SOURCE.split("pretrain"), 128, seed=0, device="cpu"),
        make_views,
        fabric=Fabric(accelerator="cpu", devices=1),
        run_dir=run_dir,
        optimizer=partial(torch.optim.AdamW, lr=5e-3),
        epochs=epochs,
        checkpoint_every_steps=1 if fail_at else None,
        progress=False,
        resume=resume,
    ).fit()
    with (run_dir / "logs" / "epochs.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def knn(method):
    """Accuracy on the test split."""
    normalize = Normalize(SOURCE.mean, SOURCE.std)
    train, test = SOURCE.split("train"), SOURCE.split("test")
    with evaluating(method), torch.no_grad():
        x, y = (method.embed(normalize(split.images)) for split in (train, test))
    return float(knn_accuracy(x, train.labels, y, test.labels, k=20))


def by_command(name, folder, *overrides):
    """Train a tiny one, evaluate and report it by the command line; gives it loaded."""
    tiny = (*TINY, "training.epochs=1", "monitor.queries=10", f"run_dir={folder / name}")
    assert run_cli("train", f"method={name}", *tiny, *overrides) == 0
    assert run_cli("evaluate", folder / name, "--protocols", "knn-v1") == 0
    assert (folder / name / "results" / "knn-v1-encoder.json").is_file()
    assert run_cli("report", folder / name) == 0
    return vje_pyro.load(folder / name)


@pytest.fixture(scope="session")
def digits():
    """``encoder()``, ``train(method, run_dir, epochs)``, ``knn(method)`` and ``by_command``."""
    return SimpleNamespace(encoder=encoder, train=train, knn=knn, by_command=by_command)


@pytest.fixture
def views():
    """Two views of eight images, normalised."""
    return torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _fresh_store():
    pyro.clear_param_store()


@pytest.fixture
def host_moves(monkeypatch):
    """A list that grows with every tensor that is read on the host from now on."""
    moved = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, _name=name, _original=original, **kwargs):
            moved.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    return moved
