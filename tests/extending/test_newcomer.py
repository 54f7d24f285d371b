"""A newcomer's additions: each one file, one configuration and one row of a test table."""

import importlib
import json
import sys

import pytest
import small
import table
import test_contract
import test_generic
from commandline import TINY, run_cli

import vje_pyro

LIKELIHOOD = '''
"""A Weibull law of a radius."""

import math

from torch import Tensor
from torch.distributions import Distribution, Weibull

from vje_pyro.distributions._radial import Radial


class RadialWeibull(Radial):
    """With median ``loc`` and shape ``loc / scale``."""

    def _law(self, loc: Tensor, scale: Tensor) -> Distribution:
        shape = loc / scale
        return Weibull(loc / math.log(2) ** (1 / shape), shape, validate_args=False)
'''
METHOD = '''
"""Alignment and uniformity (Wang & Isola, arXiv 2005.10242) on the encoder's output."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vje_pyro.method import Loss, Method
from vje_pyro.ranges import NonNegativeFloat


class Alignment(Method):
    def __init__(self, encoder: nn.Module, uniformity: NonNegativeFloat = 1.0) -> None:
        super().__init__(encoder)
        self.uniformity = uniformity

    def loss(self, views: Tensor) -> Loss:
        if len(views) < 2:
            raise ValueError(f"Alignment compares views: it needs at least 2, got {len(views)}.")
        u = torch.stack([normalize(self.embed(view), dim=-1) for view in views])
        align = (u[0] - u[1]).square().sum(-1).mean()
        distance = torch.cdist(u, u).square()
        uniform = distance.mul(-2).exp().mean().log()
        parts = {"align": align.detach(), "uniform": uniform.detach()}
        std = u.std(dim=1).mean().detach() * u.shape[-1] ** 0.5
        return Loss(align + self.uniformity * uniform, parts, {"std": std})
'''
FILES = {
    "weibull.py": LIKELIHOOD,
    "conf/likelihood/radius/weibull.yaml": (
        "_target_: weibull.RadialWeibull\n_partial_: true\nscale: 1.0\n"
    ),
    "alignment.py": METHOD,
    "conf/method/alignment.yaml": (
        "_target_: alignment.Alignment\nencoder: ${encoder}\nuniformity: 1.0\n"
    ),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder outside of the package with the newcomer's files, on Python's path."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def trained(home, *words):
    run, conf = home / "run", f"--config-dir={home / 'conf'}"
    assert run_cli("train", conf, *TINY, "training.epochs=1", f"run_dir={run}", *words) == 0
    return run


def test_a_likelihood_is_one_file_one_configuration_one_row(home):
    law = importlib.import_module("weibull").RadialWeibull
    row = table.Row("radial_weibull", "radius", law, bad=table.BAD_RADIUS, rsample=True)
    for promise in (
        test_generic.test_integrates_to_its_mass,
        test_generic.test_samples_follow_the_density,
        test_generic.test_gradients_match_finite_differences,
        test_generic.test_pathwise_gradients_are_those_of_the_expectation,
    ):
        promise(row)
    run = trained(home, "likelihood/radius=weibull", "likelihood.radius.scale=2.0")
    loaded = vje_pyro.load(run, trust=("weibull",))
    assert loaded.method.radius.func is law
    assert loaded.method.radius.keywords == {"scale": 2.0}
    images = loaded.source.split("test").images[:4]
    assert set(loaded.log_likelihood(images)) == {"elbo", "direction", "radius", "kl"}
    with pytest.raises(vje_pyro.errors.VJEError, match=r"weibull.*trust"):
        vje_pyro.load(run)


def test_a_method_is_one_file_one_configuration_one_row(home, tmp_path, monkeypatch):
    module = importlib.import_module("alignment")
    monkeypatch.setattr(small.models, "Alignment", module.Alignment, raising=False)
    monkeypatch.setitem(small.SETTINGS, "Alignment", {})
    monkeypatch.setitem(small.METHODS, "Alignment", ("Alignment", {}))
    monkeypatch.setitem(test_contract.PARTS, "Alignment", {"align", "uniform"})
    test_contract.test_the_protocol("Alignment")
    test_contract.test_every_weight_is_trained_but_those_of_a_teacher("Alignment")
    test_contract.test_encoder_and_teacher_run_once_per_view("Alignment", 2)
    test_contract.test_save_and_load_give_identical_embeddings_and_losses("Alignment", tmp_path)
    test_contract.test_a_resumed_run_is_bit_equal("Alignment", tmp_path)
    test_contract.test_one_view_is_refused("Alignment")
    run = trained(home, "method=alignment", "method.uniformity=0.5")
    assert run_cli("evaluate", run, "--protocols", "knn-v1", "--trust", "alignment") == 0
    result = json.loads((run / "results" / "knn-v1-encoder.json").read_text())
    assert result["figures"]["accuracy"]["value"] > 0.1
    assert vje_pyro.load(run, trust=("alignment",)).method.uniformity == 0.5


@pytest.mark.parametrize("value", ["-1", "much"])
def test_the_annotations_of_its_constructor_check_the_configuration(home, value, capfd):
    words = ("method=alignment", f"method.uniformity={value}", f"run_dir={home / 'run'}")
    assert run_cli("train", f"--config-dir={home / 'conf'}", *TINY, *words) == 2
    assert "method.uniformity" in capfd.readouterr().err
