"""Every key of every configuration that is composed, against odd values."""

import random

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from odd import ANYTHING, BY_TYPE, WRONG_TYPE, changed, leaves
from omegaconf import OmegaConf

from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.configuration.schema import check
from vje_pyro.errors import VJEError


def composed(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.fixture(scope="module")
def configurations():
    """Together they have every kind of component."""
    choices = [
        ("aggregate=sigreg", "optimizer=adamw"),
        ("data=folder", "data.root=x", "method=vssl", "prior=mixture", "optimizer=lars"),
        (
            "data=webdataset",
            "data.root=x",
            "data.pretrain=y",
            "method=vi_simsiam",
            "guide=low_rank_normal",
        ),
    ]
    made = [composed(*choice) for choice in choices]
    for config in made:
        OmegaConf.set_struct(config, False)
        config.image = {"channels": 1, "size": 8}
    return made


def test_a_value_of_another_type_is_refused_at_every_key(configurations):
    accepted = set()
    for config in configurations:
        for key, default in list(leaves(config)):
            if not key.endswith("_partial_"):
                for value in WRONG_TYPE.get(type(default), ({"a": 1},)):
                    with changed(config, key, value):
                        message = refusal(config, key)
                    if message is None:
                        accepted.add((key, str(value)))
                    else:
                        assert message.startswith(f"{key}=") or "_target_" in key, message
                        assert "\n" not in message
    thresholds = "rankme embedding_std active_units kl clamp_fraction"
    assert accepted == {
        ("optimizer.lr", "-1"),  # torch refuses it, when it is made
        ("optimizer.weight_decay", "-1"),
        ("optimizer.fused", "None"),
        ("training.checkpoint_every_steps", "None"),
        ("trust", "['abc']"),
        ("chosen", "['abc']"),
        ("device.timeout_s", "1.5"),
        *((f"monitor.alarm.thresholds.{name}", "None") for name in thresholds.split()),
    }


def test_odd_values_are_refused_in_words_or_pass(configurations):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for config in configurations:
        for key, default in list(leaves(config)):
            value = draw.choice((*ANYTHING, *BY_TYPE[type(default)]))
            with changed(config, key, value):
                assert refusal(config, key) != "", (key, value)


def refusal(config, key):
    """What is said of a key, None if it passes; anything but a VJEError is raised."""
    try:
        check(config, only=[key])
    except VJEError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "override",
    [
        "data.image_size=0", "data.train_limit=0", "training.log_every=1.5",
        "training.epochs=inf", "training.epochs=0", "training.max_steps=true",
        "loader.num_workers=abc", "loader.num_workers=-1",
        "loader.batch_size=1000000000000", "+x.y=1", "seed=-1", "seed=1.5",
        "encoder.widths=[]", "encoder.widths=8", "aggregate.weight=nan", "method.beta=-1",
        "method.num_particles=0", "views.flip=2", "views.num_views=true",
        "+training.seed=3", "+views.image_size=9", "device.devices=0",
        "device.precision=64", "name=3", "init_from=true", "optimizer.betas=[0.9]",
        "schedule.warmup=1", "monitor.every_epochs=0", "monitor.alarm.on_collapse=maybe",
        "likelihood.direction.df=0", "likelihood.radius=3", "guide.rank=2",
        "prior.scale=inf", "encoder._target_=nowhere.Net",
        "training.progress=yes-please", "encoder.stem_width=${nowhere}",
    ],
)  # fmt: skip
def test_what_is_useless_is_refused_and_names_its_key(configurations, override):
    message = refusal_of(configurations[0], override)
    assert override.strip("+").split("=")[0].split(".")[0] in message
    assert "\n" not in message


def refusal_of(config, override):
    parsed = OverridesParser.create().parse_override(override)
    with changed(config, parsed.key_or_group, parsed.value()), pytest.raises(VJEError) as raised:
        check(config)
    return str(raised.value)


@pytest.mark.parametrize("key", ["loader", "training.epochs", "prior", "encoder", "seed"])
def test_a_key_that_is_missing_is_named(configurations, key):
    config = configurations[0].copy()
    parent, _, name = key.rpartition(".")
    del (config[parent] if parent else config)[name]
    with pytest.raises(VJEError, match=f"{key}"):
        check(config)


def test_the_nearest_key_is_named(configurations):
    message = refusal_of(configurations[0], "+encoder.stem_witdh=3")
    assert "did you mean encoder.stem_width?" in message
    assert "did you mean loader?" in refusal_of(configurations[0], "+loadr.batch_size=3")
