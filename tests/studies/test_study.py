"""What a study says: overrides of its variants, what is missing, the search of the rate."""

import pytest
from hydra import compose, initialize_config_dir
from made_up import record, searched
from omegaconf import OmegaConf

from studies.study import FOLDER, SEARCH, Study, Task
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.errors import VJEError

NAMES = sorted(path.parent.name for path in FOLDER.glob("*/variants.yaml"))
CHANGING = ("ablation", "recipe", "sweep")
"""Whose variants change one thing of the first."""
TRAINED = [name for name in NAMES if name not in (*CHANGING, "correctness", "throughput")]
SEARCHED = {"rates": ["1e-3", "5e-4"], "beyond": {"1e-3": "2e-3", "5e-4": "2.5e-4"}}


def composed(overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", ["run_dir=none", *overrides])


def flat(node, prefix=""):
    """Values by dotted key."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key in node for k, v in flat(node[key], f"{prefix}.{key}").items()}


def settings(overrides):
    config = OmegaConf.to_container(composed(overrides))
    for key in ("data", "method"):  # the method repeats what it is made of
        config[key] = {k: v for k, v in config[key].items() if not isinstance(v, dict)}
    return flat(config)


@pytest.mark.parametrize("name", TRAINED)
def test_every_variant_is_a_configuration(name):
    study = Study.read(name)
    assert set(study.own) <= set(study.variants)
    for variant in study.variants:
        config = composed(study.overrides_of(variant, ["optimizer.lr=1e-4"]))
        assert config.optimizer.lr == 1e-4  # what a search says overrules the variant


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "ablation")) for n in CHANGING]
)
def test_a_variant_changes_what_it_says(name):
    study = Study.read(name)
    base = settings(study.overrides_of(next(iter(study.variants))))
    groups = ("aggregate", "optimizer", "likelihood.direction", "likelihood.radius")
    for variant, change in study.variants.items():
        changed = settings(study.overrides_of(variant))
        keys = base.keys() | changed.keys()
        different = {key[1:] for key in keys if base.get(key) != changed.get(key)}
        changes = {key.replace("/", ".") for key in change}
        values = changes.difference(groups)
        assert values <= different, variant
        assert all(key in values or key.startswith(groups) for key in different), variant


def test_the_centre_is_what_it_was_when_the_predictions_were_made():
    study = Study.read("recipe")
    config = composed(study.overrides_of("centre"))
    assert (config.aggregate.weight, config.aggregate.num_directions) == (1e-3, 256)
    assert config.aggregate._target_.endswith("SlicedEppsPulley")
    assert (config.method.beta, config.method.num_particles) == (1, 1)
    assert (config.guide.hidden_features, config.guide.num_layers) == (512, 1)
    assert (config.loader.batch_size, config.training.epochs) == (256, 20)
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.AdamW", 2e-3)
    assert (config.views.num_views, config.method.target_momentum) == (2, None)
    page = (FOLDER.parent / "docs" / "appendix" / "recipe.md").read_text(encoding="utf-8")
    predictions = page.split("## Predictions")[1].split("## Outcomes")[0]
    assert all(f"\n| `{name}` |" in predictions for name in study.variants)


def test_the_recommended_contender_is_the_screened_variant():
    contender = Study.read("methods").overrides_of("vje-recommended", ["optimizer.lr=1e-3"])
    screened = Study.read("recipe").overrides_of("own-64", ["data.test_limit=4000"])
    assert composed(contender) == composed(screened)


def test_studies_on_a_gpu_train_what_they_say():
    config = composed(Study.read("cifar10").overrides_of("vje"))
    assert (config.encoder.name, config.training.epochs) == ("resnet18", 100)
    assert config.method.aggregate is not None  # the recommended one
    assert config.method.direction._target_.endswith(".SphericalStudentT")
    config = composed(Study.read("cifar10").overrides_of("vje-plain"))
    assert config.method.aggregate is None
    config = composed(Study.read("cifar10").overrides_of("byol-200"))
    assert config.method._target_.endswith(".BYOL")
    assert (config.training.epochs, config.optimizer.lr) == (200, 1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("variants: [", "cannot be read"), ("varaints: {}", "varaints"), (None, "no study 'x'")],
)
def test_a_study_that_cannot_be_read(tmp_path, text, message):
    if text is not None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "variants.yaml").write_text(text)
    with pytest.raises(VJEError, match=message):
        Study.read("x", tmp_path)


def test_overrides_replace_those_of_the_same_key_and_null_leaves_one_out():
    base = {"experiment": "digits", "a": 1, "b": "[1,2]"}
    study = Study("x", {"y": {"a": None, "c": "null"}}, {}, overrides=base)
    overrides = study.overrides_of("y", ["experiment=small", "d=e=f"])
    assert overrides == ["experiment=small", "b=[1,2]", "c=null", "d=e=f"]
    with pytest.raises(VJEError, match="no variant 'z'"):
        study.overrides_of("z")


def test_what_is_missing_a_seed_of_every_variant_first():
    study = Study(
        "x", {"a": {}, "b": {}}, {"encoder": ["knn-v1", "ood-v1"]}, seeds=[0, 1],
        own={"b": {"seeds": [0], "evaluate": {"pixels": [{"p-v1": ["x", "y"]}]}}},
    )  # fmt: skip
    found = [
        record("a", "knn-v1", {}),
        record("a", "ood-v1", {}, dataset={"out": "dtd"}),
        record("b", "p-v1", {}, features="pixels", details={"name": "x"}),
        *(record("a", "knn-v1", {}, 1), record("a", "knn-v1", {}, 1, features="pixels")),
    ]
    jobs = study.missing(found, ["a", "b"], None, ["dtd", "svhn"])
    assert [(job.variant, job.seed, job.tasks) for job in jobs] == [
        ("a", 0, (Task("encoder", "ood-v1", "svhn"),)),
        ("b", 0, (Task("pixels", "p-v1", "y"),)),
        ("a", 1, (Task("encoder", "ood-v1", "dtd"), Task("encoder", "ood-v1", "svhn"))),
    ]
    assert study.missing(found, ["a"], [0], ["dtd"]) == []


class TestSearch:
    """The rate of a variant."""

    study = Study("x", {"a": {}, "b": {}}, {"encoder": ["knn-v1"]}, search=SEARCHED)

    @pytest.mark.parametrize(
        ("accuracies", "third", "best"),
        [
            ({1e-3: 0.5, 5e-4: 0.3, 2e-3: 0.4}, 2e-3, 1e-3),
            ({1e-3: 0.4, 5e-4: 0.3, 2e-3: 0.5}, 2e-3, 2e-3),
            ({1e-3: 0.3, 5e-4: 0.5, 2.5e-4: 0.4}, 2.5e-4, 5e-4),
            ({1e-3: 0.3, 5e-4: 0.4, 2.5e-4: 0.5, 2e-3: 0.9}, 2.5e-4, 2.5e-4),  # a stray one
            ({1e-3: 0.5, 5e-4: 0.5, 2.5e-4: 0.5}, 2.5e-4, 2.5e-4),
        ],
    )
    def test_the_third_rate_is_beyond_the_better_and_the_best_is_chosen(
        self, accuracies, third, best
    ):
        found = searched("a", accuracies)
        assert self.study.rates([], "a") == [1e-3, 5e-4]
        assert self.study.rates(found, "a") == [1e-3, 5e-4, third]
        assert self.study.best_rate(found, "a") == best
        assert self.study.best_rate([r for r in found if r.key[-1] != str(third)], "a") is None

    def test_all_are_searched_before_a_seed(self):
        found, done = [], []
        while jobs := self.study.missing(found, ["a", "b"], [0, 1], []):
            for job in jobs:
                ((_, protocol, _),) = job.tasks
                done.append((job.variant, job.seed, job.rate, protocol))
                score = job.rate if job.variant == "a" else -job.rate
                given = {"settings": {"rate": job.rate}} if protocol == SEARCH else {}
                found.append(record(job.variant, protocol, {"accuracy": score}, job.seed, **given))
        rates = [("a", 1e-3), ("b", 1e-3), ("a", 5e-4), ("b", 5e-4), ("a", 2e-3), ("b", 2.5e-4)]
        best = {"a": 2e-3, "b": 2.5e-4}
        assert done[:6] == [(name, 0, rate, SEARCH) for name, rate in rates]
        assert done[6:] == [(n, seed, best[n], "knn-v1") for seed in (0, 1) for n in "ab"]
