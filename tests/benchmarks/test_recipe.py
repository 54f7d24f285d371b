"""The screening of the recipe: what a variant changes, what is missing, one tiny run, the page."""

import functools

import methods
import pytest
import recipe
import recipe_table
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from series import command_line, worker_command
from vje_pyro.experiments.pretrain import CONFIG_DIR

from vje_pyro.building import build
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result

TINY = (
    "training.epochs=1", "encoder.widths=[8,16]", "encoder.stem_width=8", "data.train_limit=250",
    "loader.batch_size=50", "guide.hidden_features=16", "monitor=none",
    "training.tensorboard=false",
)  # fmt: skip


def composed(overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", ["experiment=cifar10_small", "run_dir=none", *overrides])


def flat(node, prefix=""):
    """Values by dotted key."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key in node for k, v in flat(node[key], f"{prefix}.{key}").items()}


@functools.cache
def settings(name):
    config = OmegaConf.to_container(composed(recipe.VARIANTS[name]))
    for key in ("data", "method"):  # the method repeats what it is made of
        config[key] = {k: v for k, v in config[key].items() if not isinstance(v, dict)}
    return flat(config)


def judged(study, variant, accuracy, seed=0, features="encoder"):
    for protocol in recipe.PROTOCOLS:
        figure = Figure(accuracy, accuracy - 0.01, accuracy + 0.01, 100, "made up")
        name = methods.on_validation(protocol)
        result = Result(name, {"name": "digits"}, "VJE", features, {"accuracy": figure}, seed)
        result.write(study.results(variant) / result.filename)


def test_the_recommended_contender_is_the_screened_variant():
    contender = composed([*methods.METHODS["vje-recommended"], "optimizer.lr=1e-3"])
    screened = composed([*recipe.VARIANTS["own-64"], "data.test_limit=4000"])
    assert contender == screened


def test_the_centre_is_what_it_was_when_the_predictions_were_made():
    config = composed(recipe.VARIANTS["centre"])
    assert (config.aggregate.weight, config.aggregate.num_directions) == (1e-3, 256)
    assert config.aggregate._target_.endswith("SlicedEppsPulley")
    assert (config.method.beta, config.method.num_particles) == (1, 1)
    assert (config.guide.hidden_features, config.guide.num_layers) == (512, 1)
    assert (config.loader.batch_size, config.training.epochs, config.views.num_views) == (
        256,
        20,
        2,
    )
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.AdamW", 2e-3)
    assert list(config.encoder.widths) == [64, 128, 256]
    assert config.method.target_momentum is None


@pytest.mark.parametrize("name", list(recipe.CHANGES))
def test_a_variant_changes_what_it_says(name):
    centre, changed = settings("centre"), settings(name)
    keys = centre.keys() | changed.keys()
    different = {key[1:] for key in keys if centre.get(key) != changed.get(key)}
    groups = ("aggregate", "optimizer", "likelihood.direction")  # have defaults of their own
    changes = {key.replace("/", ".") for key in recipe.CHANGES[name]}
    values = changes.difference(groups)
    assert values <= different
    assert all(key in values or key.startswith(groups) for key in different)
    assert {key.split(".")[0] for key in different} == {key.split(".")[0] for key in changes}


def test_four_views_have_as_many_steps_and_encoder_passes():
    costs = []
    for name in ("centre", "views-4"):
        config = composed(recipe.VARIANTS[name])
        steps = config.training.epochs * (config.data.train_limit // config.loader.batch_size)
        costs.append((steps, steps * config.loader.batch_size * config.views.num_views))
    assert costs[0] == costs[1]


def test_features_are_read_where_they_say():
    torch.manual_seed(0)
    method = build(OmegaConf.merge(composed(TINY), {"image": {"channels": 3, "size": 8}}).method)
    images = torch.randn(4, 3, 8, 8)
    method.loss(torch.stack([images, images.flip(-1)]))  # moves the running statistics
    method.eval()
    read = {name: recipe.Reading(method, name).embed(images) for name in recipe.FEATURES}
    assert torch.equal(read["encoder"], method.embed(images))
    assert torch.equal(read["batch-norm"], method.norm(read["encoder"]))
    assert torch.equal(read["posterior-mean"], method.posterior(images).mean)


def test_what_is_missing_a_seed_of_every_variant_first(tmp_path):
    study = methods.Study("digits", root=tmp_path, name="recipe", variants=recipe.VARIANTS)
    judged(study, "centre", 0.5)
    judged(study, "beta-2", 0.5, seed=1)
    both = ["encoder", "batch-norm"]
    assert list(recipe.missing(study, ["centre", "beta-2"], [0, 1], both)) == [
        ("centre", 0, ["batch-norm"]), ("beta-2", 0, both),
        ("centre", 1, both), ("beta-2", 1, ["batch-norm"]),
    ]  # fmt: skip


def test_several_workers_get_a_run_each(tmp_path, monkeypatch):
    given, ran = [], []
    monkeypatch.setattr(recipe, "run_all", lambda commands, *_: given.append(commands) or 1)
    arguments = ["data.root=x", "--variants", "beta-2", "batch-128", "--workers", "2"]
    where = ["--root", str(tmp_path), "--study", "gpu/recipe", "--features", "batch-norm"]
    assert recipe.main([*arguments, *where]) == 1
    monkeypatch.setattr(recipe, "screen", lambda study, *job: ran.append((study, *job)))
    for command in given[0]:
        assert recipe.main(command[2:]) == 0
    assert [job for _, *job in ran] == [
        ["beta-2", 0, ["batch-norm"]], ["batch-128", 0, ["batch-norm"]],
    ]  # fmt: skip
    assert {(s.name, s.overrides, s.root) for s, *_ in ran} == {
        ("gpu/recipe", ("data.root=x",), tmp_path)
    }


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    ran = []

    def screen(study, variant, *_):
        if variant == "sgd-0.5":
            raise VJEError("went to infinity")
        ran.append(variant)

    monkeypatch.setattr(recipe, "screen", screen)
    names = ["sgd-0.5", "beta-2"]
    assert recipe.main(["--variants", *names, "--root", str(tmp_path)]) == 1
    assert ran == ["beta-2"]
    assert "went to infinity" in capsys.readouterr().err
    assert recipe.main(["--variants", *names, "--root", str(tmp_path), "--minutes", "-1"]) == 0
    assert ran == ["beta-2"]


def test_a_worker_is_told_all_that_this_call_was_told(tmp_path):
    parser = command_line("Some study.", "some", ["a", "b"], (0, 1), "variants")
    told = ["x=1", "--minutes", "3", "--root", str(tmp_path), "--experiment", "digits"]
    options = parser.parse_args([*told, "--workers", "4"])
    again = parser.parse_args(worker_command("script", options, variants=["b"], seeds=[1])[2:])
    assert vars(again) == vars(options) | {"variants": ["b"], "seeds": [1], "workers": 1}


def test_a_tiny_screening_is_done_judged_on_validation_images_and_then_skipped(
    tmp_path, monkeypatch
):
    arguments = [*TINY, "--experiment", "digits", "--variants", "centre", "--root", str(tmp_path)]
    arguments += ["--features", *recipe.FEATURES]
    assert recipe.main(arguments) == 0
    folder = tmp_path / "docs" / "results" / "recipe" / "centre"
    files = {path.name for path in folder.iterdir()}
    assert files == {
        f"VJE-{features}-seed0-{protocol}-validation-v1.json"
        for features in recipe.FEATURES
        for protocol in ("knn", "linear")
    }
    found = Result.read(folder / "VJE-encoder-seed0-knn-validation-v1.json")
    assert (found.dataset["train"], found.dataset["test"]) == (250, 1437 - 250)
    assert 0.1 < found.figures["accuracy"].value < 1
    assert found.config["aggregate"]["weight"] == 1e-3
    assert not any(str(tmp_path) in path.read_text() for path in folder.iterdir())
    monkeypatch.setattr(recipe, "screen", lambda *job: pytest.fail("run again"))
    assert recipe.main(arguments) == 0


def test_the_table_says_what_the_files_say(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_table, "RESULTS", tmp_path / "docs" / "results" / "recipe")
    study = methods.Study("digits", root=tmp_path, name="recipe", variants=recipe.VARIANTS)
    for seed, accuracy in enumerate((0.45, 0.47)):
        judged(study, "centre", accuracy, seed)
    judged(study, "beta-2", 0.44)
    judged(study, "centre", 0.46, features="batch-norm")
    rows = {row.split("|")[1].strip(): row for row in recipe_table.table().splitlines()[2:-2]}
    assert rows["`centre`"].startswith("| `centre` |  | 46.0 [33.3, 58.7] |  | 46.0 ")
    assert rows["`centre`"].endswith("| 0, 1 |")
    beta = "| 44.0 [43.0, 45.0]\\* | -1.0 | 44.0 [43.0, 45.0]\\* | -1.0 | 0 |"
    assert rows["`beta-2`"] == f"| `beta-2` | `method.beta=2` {beta}"
    assert "| +1.0 |" in rows["`centre, batch-norm`"]
    assert "not run yet" in rows["`batch-128`"]
    assert len(rows) == len(recipe.CHANGES) + 2


def test_the_page_is_up_to_date_and_predicts_every_variant():
    assert recipe_table.main(["--check"]) == 0
    page = (recipe_table.DOCS / "studies" / "recipe.md").read_text()
    predictions = page.split("## Predictions")[1].split("## Outcomes")[0]
    assert all(f"\n| `{name}` |" in predictions for name in recipe.CHANGES)


def test_the_search_of_the_rate_overrules_the_rate_of_a_recipe():
    assert composed([*recipe.VARIANTS["rate-4e-3"], "optimizer.lr=0.001"]).optimizer.lr == 1e-3
