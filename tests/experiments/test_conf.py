"""Every configuration file composes, and every component in it can be made."""

import inspect
from functools import partial

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.configuration.schema import check
from vje_pyro.method import Method

EXPERIMENTS = sorted(p.stem for p in (CONFIG_DIR / "experiment").glob("*.yaml"))
CHOICES = [
    f"{path.parent.relative_to(CONFIG_DIR).as_posix()}={path.stem}"
    for path in sorted(CONFIG_DIR.glob("**/*.yaml"))
    if path.parent not in (CONFIG_DIR, CONFIG_DIR / "experiment", CONFIG_DIR / "recipe")
]
MADE_WITHOUT = {
    "alignment=conditional": ["alignment.encoder.num_features=256"],
    "encoder=timm": ["encoder.name=resnet10t"],
    "data=folder": ["data.root=nowhere"],
    "data=webdataset": ["data.root=nowhere", "data.pretrain=shard.tar"],
}


def composed(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", list(overrides))
    check(config)
    return OmegaConf.merge(config, {"image": {"channels": 3, "size": 32}})


def test_the_experiments_that_are_promised_are_there():
    promised = "digits cifar10 cifar10_paper cifar10_small cifar100 stl10 imagenet"
    assert set(promised.split()) <= set(EXPERIMENTS)


def test_cifar10_is_the_paper_experiment_with_what_the_study_recommends():
    recommended, paper = composed("experiment=cifar10"), composed("experiment=cifar10_paper")
    assert paper == composed("experiment=cifar100", "data=cifar10", "name=cifar10_paper")
    # The pull of the studied recipe, weight times batch, at this batch.
    assert recommended.aggregate.weight * recommended.loader.batch_size == 4e-3 * 64
    assert recommended == composed(
        "experiment=cifar10_paper", "name=cifar10", "guide.hidden_features=1024",
        "aggregate=sigreg",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sigreg", "sliced_wasserstein", "variance_covariance"])
def test_an_aggregate_term_has_the_same_defaults_in_the_configuration(name):
    term = build(composed(f"aggregate={name}").aggregate)
    assert {k: getattr(term, k) for k in ("weight", "num_directions") if hasattr(term, k)} == {
        k: v.default for k, v in inspect.signature(type(term)).parameters.items()
        if k in ("weight", "num_directions")
    }  # fmt: skip


@pytest.mark.parametrize("swap", ["aggregate=none", "guide=low_rank_normal", "method=byol"])
def test_what_is_recommended_can_be_swapped(swap):
    if swap.startswith("method"):
        pytest.importorskip("lightly", reason="lightly is an extra")
    assert isinstance(build(composed("experiment=cifar10", swap).method), Method)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_makes_its_method(experiment):
    folder = ["data.root=nowhere"] if experiment == "my_images" else []
    config = composed(f"experiment={experiment}", *folder)
    assert config.name == experiment
    method = build(config.method)
    assert isinstance(method, Method)
    assert method.encoder.num_features == method.num_features
    source = build(config.data)
    views = build(config.views, image_size=source.image_size, mean=source.mean, std=source.std)
    assert views.num_views == 2
    assert callable(build(config.optimizer))
    assert build(config.schedule)(0, 100) > 0


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_is_made(choice):
    if choice == "encoder=timm":
        pytest.importorskip("timm", reason="timm is an extra")
    if choice.startswith("method=") and choice != "method=vje":
        pytest.importorskip("lightly", reason="lightly is an extra")
    config = composed(choice, *MADE_WITHOUT.get(choice, []))
    group = choice.split("=")[0]
    node = OmegaConf.select(config, group.replace("/", "."))
    if choice in ("logger=csv", "logger=none"):
        assert node == {}  # no tracker
    elif choice.endswith("=none") and choice != "monitor=none":
        assert node is None
    elif "_target_" in node:
        known = {"image_size": 32, "mean": [0.5] * 3, "std": [0.2] * 3} if group == "views" else {}
        assert build(node, **known) is not None
    else:
        assert build(node)
    assert isinstance(build(config.method), Method)


def test_likelihoods_and_guides_are_partials_of_their_classes():
    config = composed("likelihood.direction.df=7", "guide.num_layers=2")
    method = build(config.method)
    assert isinstance(method.direction, partial)
    assert method.direction.keywords["df"] == 7
    assert sum(type(m).__name__ == "Linear" for m in method.inference.modules()) == 3
