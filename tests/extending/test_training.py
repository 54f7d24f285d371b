"""The page's class in a file of one's own, trained from the command line."""

import re
import sys

import numpy as np
import pytest
import torch
from commandline import TINY, run_cli
from PIL import Image
from safetensors.torch import load_file

import vje_pyro

SHIFTED = '''

class Shifted(SemiSupervised):
    """Its guide makes a parameter."""

    def approximate(self, posterior, scale, target=None, labels=None):
        shift = pyro.param("shift", lambda: posterior.mean.new_full((self.num_features,), 0.1))
        with self.plate(scale):
            law = pyro.distributions.Normal(posterior.mean + shift, posterior.stddev)
            return pyro.sample("z", law.to_event(1))


class Stray(SemiSupervised):
    """Makes a parameter where nothing holds it."""

    def loss(self, views, labels):
        pyro.param("stray", views.new_zeros(3))
        return super().loss(views, labels)
'''


@pytest.fixture
def target(tmp_path, monkeypatch, page_text):
    """``semi_supervised.py`` as the page has it, and a class with a parameter beside it."""
    code = re.search(r"`semi_supervised.py`:\n\n```python\n(.*?)```", page_text, re.DOTALL)[1]
    (tmp_path / "semi_supervised.py").write_text(code + SHIFTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VJE_TRUST", "semi_supervised")
    yield "method._target_=semi_supervised.Shifted"
    sys.modules.pop("semi_supervised", None)


def test_labels_and_parameters_of_programs_from_the_command_line(tmp_path, target):
    run = tmp_path / "run"
    assert run_cli("train", *TINY, target, f"run_dir={run}", "training.max_steps=7") == 0
    last, best = (load_file(run / f"checkpoints/{n}.safetensors") for n in ("last", "best"))
    for tensors in (last, best):
        assert (tensors["model.params.shift"] != 0.1).all()
        assert tensors["model.classify.weight"].shape[0] == 10
    assert torch.isfinite(last["optimizer.classify.weight.exp_avg"]).all()
    assert "label" in (run / "logs/steps.csv").read_text().splitlines()[0]
    loaded = vje_pyro.load(run)
    assert torch.equal(loaded.method.params.state_dict()["shift"], last["model.params.shift"])
    images = np.zeros((2, 8, 8), dtype=np.uint8)
    assert set(loaded.log_likelihood(images, images)) == {"elbo", "direction", "radius", "kl"}
    assert run_cli("train", f"resume={run}", "training.progress=false") == 0
    again = load_file(run / "checkpoints/last.safetensors")
    assert all(torch.equal(again[name], value) for name, value in last.items())


def test_parameters_that_nothing_would_train_are_an_error(tmp_path, target, capfd):
    run = f"run_dir={tmp_path / 'run'}"
    assert run_cli("train", *TINY, target.replace("Shifted", "Stray"), run) == 2
    assert (
        r"error: the first step created ['stray'] with pyro.param outside" in capfd.readouterr().err
    )


@pytest.mark.parametrize("labelled", [0, 4])
def test_images_outside_of_class_folders_have_no_label(tmp_path, target, labelled, capfd):
    root, run = tmp_path / "images", tmp_path / "run"
    (root / "ant").mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / ("ant" if number < labelled else "") / f"{number}.png")
    small = ("views=cifar", "loader.batch_size=8", "loader.num_workers=0", "monitor=none")
    data = ("data=folder", f"data.root={root}", "data.image_size=16", *small)
    code = run_cli("train", *TINY[1:-3], *data, target, f"run_dir={run}", "training.epochs=1")
    if labelled:
        assert code == 0
        assert (run / "checkpoints/last.safetensors").exists()
        return
    assert code == 2
    assert re.search("error: Shifted learns from labels, but none of the 8", capfd.readouterr().err)
