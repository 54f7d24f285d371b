"""The tables of the pages: what they say of made-up results, and that the pages say it."""

import json
import re

import pytest
from made_up import record, searched

from studies import ROOT, pivot, posterior_table, tables
from studies.store import Store
from vje_pyro import statistics
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure

TABLE = {name: make for (_, name), make in tables.TABLES.items()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def rows(text):
    lines = text.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_pages_are_up_to_date():
    assert tables.rewrite(ROOT, check=True) == []


def test_every_marker_of_a_page_has_its_table():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = {
        (page.relative_to(ROOT).as_posix(), line.split("-- ")[1].split(":")[0])
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("<!-- ") and line.endswith(":begin -->")
    }
    assert found == set(tables.TABLES)


def test_pages_are_rewritten_between_the_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "TABLES", {("page.md", "a"): lambda results: results.name})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n")
    assert tables.rewrite(tmp_path, check=True) == ["page.md: a"]
    assert "old" in page.read_text()
    assert tables.rewrite(tmp_path) == ["page.md: a"]
    assert page.read_text() == "before\n<!-- a:begin -->\nresults\n<!-- a:end -->\nafter\n"
    assert tables.rewrite(tmp_path, check=True) == []
    for text in ("nothing", "<!-- a:end --><!-- a:begin -->", 2 * page.read_text()):
        with pytest.raises(VJEError, match="must hold one line <!-- a:begin -->"):
            tables.update(text, "a", "")


def test_accuracies(store):
    # t(2, 0.975) = 4.303 and a standard error of 0.02 / sqrt(3): 42 plus or minus 5.0 points, or
    # 0.204 on the logit scale.
    store.add("reference", [
        *(record("small", "knn-v1", {"accuracy": a}, s) for s, a in enumerate((0.4, 0.42, 0.44))),
        record("small", "few-label-v1", {"accuracy_5": 0.5}),
        record("small", "knn-v1", {"accuracy": 0.37}, method="SimSiam", features="pixels"),
        record("full", "training-v1", {}),
        record("full", "knn-v1", {"accuracy": 0.8}),
        record("full", "ood-v1", {"auroc_knn": 0.5}),
    ])  # fmt: skip
    text = tables.accuracies("reference")(store.folder)
    assert text.splitlines()[:5] == [
        "| study | method | features | kNN | 5 labels | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
        "| full | VJE | encoder | 80.0 [79.0, 82.0]\\* | – | 1 |",
        "| small | SimSiam | pixels | 37.0 [36.0, 39.0]\\* | – | 1 |",
        "| small | VJE | encoder | 42.0 [37.1, 47.0] | 50.0 [49.0, 52.0]\\* | 1–3 |",
    ]
    assert "RankMe" not in text
    assert tables.accuracies("ablation")(store.folder) == "No results yet."


def test_a_figure_without_interval_and_one_in_nats(store):
    lone = record("one", "training-v1", {"rankme": 54.0})
    lone.result.figures["rankme"] = Figure(54.0, 54.0, 54.0, 1, "one run")
    store.add("ablation", [lone, record("one", "latent-v1", {"latent_gain": 20.0})])
    text = tables.accuracies("ablation", tables.ACCURACY_NOTE + tables.OTHER_NOTE)(store.folder)
    assert rows(text) == [["one", "VJE", "encoder", "54.0", "20.0 [20.0, 20.0]\\*", "1"]]
    assert "in nats per datum" in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"train": "cd"}, "differ in dataset"), ({"settings": {"k": 2}}, "differ in settings")],
)
def test_what_cannot_be_averaged_is_refused(store, fields, message):
    store.add("reference", [record("small", "knn-v1", {"accuracy": 0.4})])
    store.add("reference", [record("small", "knn-v1", {"accuracy": 0.4}, 1, **fields)])
    with pytest.raises(VJEError, match=f"small.*seeds 0 and 1 {message}"):
        tables.accuracies("reference")(store.folder)


def test_methods_and_their_search(store):
    rates = {1e-3: 0.3, 5e-4: 0.5, 2.5e-4: 0.4}
    store.add("methods", searched("byol", rates) + searched("vje", rates))
    for method, seed, accuracy in (("byol", 0, 0.41), ("byol", 1, 0.43), ("vje", 0, 0.5)):
        store.add("methods", [record(method, "knn-v1", {"accuracy": accuracy}, seed)])
    cost = {"16px_byol_to_bound": {"value": 1.5, "low": 1.4, "high": 1.6}}
    (store.folder / "benchmarks").mkdir()
    path = store.folder / "benchmarks" / "methods-cpu.json"
    path.write_text(json.dumps({"figures": cost}))
    best, second, *others = rows(tables.methods_table(store.folder))
    assert best[:3] == ["`vje`", "0.0005", "50.0 [49.0, 52.0]\\*"]
    assert (best[-2], best[-1]) == ("", "0")
    assert second[2] == "41.0, 43.0"
    assert (second[-2], second[-1]) == ("1.50 [1.40, 1.60]", "0, 1")
    assert {row[2] for row in others} == {"not run yet"}
    found = {row[0]: row[1:] for row in rows(tables.search_table(store.folder))}
    assert found["`byol`"] == ["40.0", "**50.0**", "30.0", ""]
    assert found["`vicreg`"] == ["", "not run yet", "not run yet", ""]


def test_the_screening_of_the_recipe(store):
    for protocol in ("knn-validation-v1", "linear-validation-v1"):
        made = [record("centre", protocol, {"accuracy": a}, s) for s, a in ((0, 0.45), (1, 0.47))]
        made += [record("beta-2", protocol, {"accuracy": 0.44})]
        made += [record("centre", protocol, {"accuracy": 0.46}, features="batch-norm")]
        store.add("recipe", made)
    found = {row[0]: row[1:] for row in rows(tables.recipe_table(store.folder))}
    assert found["`centre`"] == ["", "45.0, 47.0", "", "45.0, 47.0", "", "0, 1"]
    beta = ["44.0 [43.0, 46.0]\\*", "-1.0", "44.0 [43.0, 46.0]\\*", "-1.0", "0"]
    assert found["`beta-2`"] == ["`method.beta=2`", *beta]
    assert found["`centre, batch-norm`"][2] == "+1.0"
    assert found["`batch-128`"] == ["`loader.batch_size=128`", "not run yet", "", "", "", ""]
    assert found["`aggregate-none`"][0] == "`aggregate=none`"


def test_detection(store):
    def detected(variant, seed, out, value):
        figures = {"auroc_knn": value, "auroc_vim": value, "aupr_knn": 0.1}
        return record(variant, "ood-v1", figures, seed, dataset={"out": out})

    made = [detected("a", 0, "mnist", 0.5), detected("a", 1, "mnist", 0.7)]
    made += [detected("a", 0, "dtd", 0.8), detected("b", 0, "dtd", 0.9)]
    made += [record("a", "one-class-v1", {"auroc_elbo": 0.9, "auroc_elbo_3": 0.8})]
    store.add("reference", made)
    store.add("methods", made[:4])
    text = TABLE["ood"](store.folder)
    assert text.splitlines()[0] == "| study | method | score | dtd | mnist | seeds |"
    assert rows(text)[0][:4] == ["a", "VJE", "knn", "0.800 [0.790, 0.820]\\*"]
    assert rows(text)[0][4] == "0.500, 0.700"
    assert rows(text)[2] == ["b", "VJE", "knn", "0.900 [0.890, 0.920]\\*", "–", "1"]
    classes = TABLE["one-class"](store.folder)
    assert rows(classes) == [["a", "VJE", "elbo", "0.900 [0.890, 0.920]\\*", "1"]]
    few = rows(TABLE["ood-methods-few"](store.folder))
    assert [row[:2] for row in few] == [["vim", "`a`"], ["vim", "`b`"]]
    both = rows(TABLE["ood-methods"](store.folder))
    assert [row[:2] for row in both] == [[s, f"`{m}`"] for s in ("knn", "vim") for m in "ab"]


def test_uncertainty_of_the_newest_version(store):
    details = {"error_knn": 0.8, "best_aurc_knn": 0.4, "no_calibration": "why"}
    made = [
        record("a", "uncertainty-v1", {"aurc_knn_knn": 0.5, "calibration_angle": 0.1},
               details=details),
        record("b", "uncertainty-v1", {"aurc_knn_knn": 0.5}),
        record("b", "uncertainty-v2", {"aurc_knn_knn": 0.3, "r-auroc_posterior": 0.7}),
    ]  # fmt: skip
    store.add("methods", made)
    store.add("reference", made)
    lines = TABLE["uncertainty-methods"](store.folder).splitlines()
    assert lines[0] == "| figure | method | error rate | best order | knn | posterior | seeds |"
    assert lines[2] == "| aurc_knn | `a` | 0.800 | 0.400 | 0.500 [0.490, 0.520]\\* | – | 1 |"
    assert lines[3].startswith("| aurc_knn | `b` | – | – | 0.300 [")
    assert "| r-auroc | `a` | – | – | – | – | 0 |" in lines
    assert ["a", "VJE", "calibration_angle", "–", "0.100 [0.090, 0.120]\\*", "1"] in rows(
        TABLE["uncertainty"](store.folder)
    )


def test_several_views_have_a_table_of_their_own(store):
    figures = {"aurc_knn_knn": 0.3}
    figures |= {f"views-{k}_{what}": 1 / k for k in (1, 8) for what in ("variance", "aurc_knn")}
    store.add("methods", [record("vje", "uncertainty-v2", figures)])
    text = TABLE["uncertainty-views"](store.folder)
    assert text.splitlines()[0] == "| study | views | variance | aurc_knn | seeds |"
    assert [row[:2] for row in rows(text)] == [["vje", "1"], ["vje", "8"]]
    assert rows(text)[1][2] == "0.125 [0.115, 0.145]\\*"
    assert "views" not in TABLE["uncertainty-methods"](store.folder)


def test_bayesian_heads(store):
    for seed, shift in ((0, 0.0), (1, 0.2)):
        figures = {
            f"{metric}_{head}_{labels}": value + shift
            for labels in (1, 10)
            for head in ("logistic-points", "niw-posterior")
            for metric, value in (("accuracy", 0.3), ("nll", 2.0), ("ece", 0.1))
        }
        store.add("methods", [record("vje", "bayes-heads-v1", figures, seed)])
    text = TABLE["heads"](store.folder)
    heading = "study | labels a class | head | reads | accuracy, % | nll | ece | seeds"
    assert text.splitlines()[0] == f"| {heading} |"
    assert [row[:4] for row in rows(text)] == [
        ["vje", labels, *head]
        for labels in ("1", "10")
        for head in (["logistic", "points"], ["niw", "posterior"])
    ]
    assert all(row[4] == "30.0, 50.0" for row in rows(text))


def test_the_choice_of_a_score(store):
    figures = {f"{task}_knn": 0.4 for task in ("smeared", "faded", "drowned", "shuffled")}
    figures |= {f"class_{number}_knn": 0.6 for number in range(10)}
    both = figures | {name.replace("knn", "niw"): value + 0.2 for name, value in figures.items()}
    store.add("reference", [
        record("old", "outlier-choice-v1", figures, details={"name": "plain-seed0"}),
        record("new", "outlier-choice-v1", both, 1),
    ])  # fmt: skip
    text = tables.choice_table(store.folder)
    assert text.startswith("| score | new: spoiled | new: class left out | new: merit | plain-")
    assert rows(text) == [
        ["`niw`", "0.600", "0.800", "0.700", "–", "–", "–"],
        ["`knn`", "0.400", "0.600", "0.500", "0.400", "0.600", "0.500"],
    ]


def test_the_posterior(store):
    def checks(shift):
        content = {}
        for number, where in enumerate(posterior_table.POSTERIOR.values()):
            part = content
            for key in where[:-1]:
                part = part.setdefault(key, {})
            x = 0.5 if "coverage" in where[-2] else number + shift
            part[where[-1]] = {"value": x, "low": x - 1, "high": x + 1, "n": 9, "interval": "made"}
        content["latent"]["active_units"] = 3 + shift
        return content

    made = [("vje", 0, 0), ("vje-recommended", 0, 9.0), ("vje-recommended", 1, 11.0)]
    for variant, seed, shift in made:
        details = {"checks": checks(shift)}
        store.add("methods", [record(variant, "diagnostics-v2", {}, seed, details=details)])
    heading, _, kl, *others = posterior_table.posterior_table(
        "methods", tables.BOTH, store.folder
    ).splitlines()
    assert heading == "|  | plain, seeds: 1 | recommended, seeds: 2 |"
    assert kl.startswith("| KL to the prior, nats | 0.000 [-1.000, 1.000]\\* | 9.0, 11.0 |")
    assert any(row == "| active units of 256 | 3 | 12, 14 |" for row in others)
    assert posterior_table.posterior_table("methods", {"x": "y"}, store.folder) == "No results yet."


def test_a_campaign_is_a_row_with_all_its_counts(tmp_path):
    found = {"name": "kills", "seed": 3, "cases": 1200, "lost": 0, "random": 80, "commit": "a" * 40}
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "kills.json").write_text(json.dumps(found))
    table = tables.campaigns_table(tmp_path)
    assert rows(table) == [["kills", "1,200", "lost 0, random 80", "3", "aaaaaaa"]]


INTERVAL = re.compile(r"(-?[\d.,]+) \[(-?[\d.,]+), (-?[\d.,]+)\]")


def test_no_interval_leaves_its_range(monkeypatch):
    """Neither of the figures that the tables are made of, nor as the tables show them."""
    made = []

    def over_seeds(figures, scale):
        made.append((statistics.over_seeds(figures, scale), scale))
        return made[-1][0]

    monkeypatch.setattr(pivot, "over_seeds", over_seeds)
    shown = [found for make in tables.TABLES.values()
             for found in INTERVAL.findall(make(ROOT / "docs" / "results"))]  # fmt: skip
    assert len(made) > 1000
    for figure, scale in made:
        assert scale.low <= figure.low <= figure.value <= figure.high <= scale.high
    assert len(shown) > 1000
    for ends in shown:
        value, low, high = (float(x.replace(",", "")) for x in ends)
        assert low <= value <= high
