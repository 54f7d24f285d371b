"""Published recipes of the baselines: each composes, is made, and is what was published."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.data import Views
from vje_pyro.models import BYOL, BarlowTwins, MoCoV3, SimCLR, SimSiam, VICReg
from vje_pyro.training.optim import LARS, param_groups

pytest.importorskip("lightly", reason="lightly is an extra")

METHODS = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "moco_v3": MoCoV3,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "vicreg": VICReg,
}
RATES = {  # rate and weight decay of the files that each recipe cites
    "barlow_twins": (0.3, 1e-4),
    "byol": (1.0, 1e-5),
    "moco_v3": (0.3, 1e-6),
    "simclr": (0.4, 1e-4),
    "simsiam": (0.5, 1e-5),
    "vicreg": (0.3, 1e-4),
}
SOLARIZED = {"barlow_twins": (0, 0.2), "byol": (0, 0.2), "moco_v3": (0, 0.2), "vicreg": (0.1, 0.1)}
BLURRED = {"simclr": (0.5, 0.5), "simsiam": (0.5, 0.5)}


def composed(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", list(overrides))
    return OmegaConf.merge(config, {"image": {"channels": 3, "size": 32}})


def test_there_is_a_recipe_for_every_baseline():
    assert {path.stem for path in (CONFIG_DIR / "recipe").glob("*.yaml")} == set(METHODS)


@pytest.mark.parametrize("recipe", METHODS)
def test_a_recipe_makes_its_method_optimiser_and_views(recipe):
    config = composed("experiment=cifar10", f"+recipe={recipe}")
    assert config.name == f"cifar10_{recipe}"
    assert config.data._target_ == "vje_pyro.data.CIFAR10"
    assert (config.training.epochs, config.loader.batch_size) == (1000, 256)

    method = build(config.method)
    assert type(method) is METHODS[recipe]
    assert method.num_features == 512  # ResNet-18

    optimizer = build(config.optimizer)(param_groups(method))
    assert isinstance(optimizer, torch.optim.SGD if recipe == "simsiam" else LARS)
    weights = optimizer.param_groups[0]
    assert (weights["lr"], weights["weight_decay"]) == RATES[recipe]
    assert weights["momentum"] == 0.9

    schedule = build(config.schedule)
    assert schedule(10, 1000) == pytest.approx(1, abs=1e-3)  # warm after ten epochs
    assert schedule(999, 1000) < 1e-4

    views = build(config.views, image_size=32, mean=[0.5] * 3, std=[0.25] * 3)
    assert isinstance(views, Views)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.isfinite(method.loss(views(images)).total)
    assert pair(config.views.solarize) == SOLARIZED.get(recipe, (0, 0))
    assert pair(config.views.blur) == BLURRED.get(recipe, (0, 0))


def pair(setting):
    """Of the first and the second view."""
    return tuple(setting) if OmegaConf.is_list(setting) else (setting, setting)


def test_the_command_line_overrides_a_recipe():
    config = composed("experiment=cifar10", "+recipe=byol", "training.epochs=7", "optimizer.lr=2")
    assert (config.training.epochs, config.optimizer.lr) == (7, 2)
