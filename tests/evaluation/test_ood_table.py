"""The tables of the pages on detection and uncertainty come from result files."""

import importlib.util
import json
from pathlib import Path

import pytest
from tables import update

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ood_table.py"


@pytest.fixture
def script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("ood_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


def save(folder, protocol, figures, seed=0, out=None, train="abc", details=None):
    dataset = {"name": "toy", "digest": {"train": train}} | ({"out": out} if out else {})
    made = {n: Figure(v, v - 0.1, v + 0.1, 10, "test") for n, v in figures.items()}
    result = Result(protocol, dataset, "VJE", "encoder", made, seed, details=details or {})
    result.write(folder / f"VJE-encoder-seed{seed}-{protocol}-{out}.json")


def test_tables(script, tmp_path):
    folder = tmp_path / "results" / "ood" / "small"
    for seed, value in ((0, 0.5), (1, 0.7)):
        save(folder, "ood-v1", {"auroc_knn": value, "aupr_knn": 0.1}, seed, "mnist")
    save(folder, "ood-v1", {"auroc_knn": 0.8}, 0, "dtd")
    lines = script.ood_table().splitlines()
    assert lines[0] == "| study | method | score | dtd | mnist | seeds |"
    assert len(lines) == 3
    assert "| small | VJE | knn | 0.800 [0.700, 0.900]\\* | 0.600 [" in lines[2]
    assert lines[2].endswith("| 2 |")
    figures = {"aurc_knn_posterior": 0.3, "aurc_knn_knn": 0.2, "calibration_angle": 0.4}
    save(tmp_path / "results" / "uncertainty" / "small", "uncertainty-v1", figures)
    table = script.uncertainty_table().splitlines()
    assert table[0] == "| study | method | figure | posterior | knn | seeds |"
    assert "| aurc_knn | 0.300 [0.200, 0.400]\\* | 0.200" in table[2]
    assert "| calibration_angle | 0.400" in table[3]
    save(
        tmp_path / "results" / "one_class" / "digits", "one-class-v1",
        {"auroc_elbo-views": 0.9, "auroc_elbo-views_3": 0.8},
    )  # fmt: skip
    assert len(script.one_class_table().splitlines()) == 3


def test_the_study_of_methods_has_tables_of_its_own(script, tmp_path):
    for method, value in (("byol", 0.5), ("vje", 0.7)):
        figures = {"auroc_knn": value, "auroc_vim": value + 0.1}
        save(tmp_path / "results" / "ood" / f"methods-{method}", "ood-v1", figures, 0, "dtd")
        figures = {"aurc_knn_knn": value, "aurc_knn_posterior": value - 0.2}
        save(
            tmp_path / "results" / "uncertainty" / f"methods-{method}", "uncertainty-v1", figures,
            details={"error_knn": 0.8, "best_aurc_knn": 0.4, "no_calibration": "why"},
        )  # fmt: skip
    assert script.ood_table() == script.uncertainty_table() == "No results yet."
    lines = script.methods_ood_table().splitlines()
    assert lines[0] == "| score | method | dtd | seeds |"
    starts = [line.split(" |")[:2] for line in lines[2:]]
    assert starts == [[f"| {s}", f" `{m}`"] for s in ("knn", "vim") for m in ("byol", "vje")]
    few = script.methods_ood_table(["vim"]).splitlines()
    assert few == [*lines[:2], *lines[4:]]
    lines = script.methods_uncertainty_table().splitlines()
    assert lines[0] == "| figure | method | error rate | best order | knn | posterior | seeds |"
    assert lines[2].startswith("| aurc_knn | `byol` | 0.800 | 0.400 | 0.500 [0.400, 0.600]\\* |")
    assert len(lines) == 4
    figures = {"aurc_knn_knn": 0.3, "r-auroc_posterior": 0.7}
    save(tmp_path / "results" / "uncertainty" / "methods-vje", "uncertainty-v2", figures)
    lines = script.methods_uncertainty_table().splitlines()
    assert lines[3].startswith("| aurc_knn | `vje` | – | – | 0.300 [")  # of version 2 alone
    assert lines[4] == "| r-auroc | `byol` | – | – | – | – | 0 |"
    assert lines[5].startswith("| r-auroc | `vje` | – | – | – | 0.700 [")


def test_several_views_have_a_table_of_their_own(script, tmp_path):
    figures = {"aurc_knn_knn": 0.3}
    figures |= {f"views-{k}_{what}": 1 / k for k in (1, 8) for what in ("variance", "aurc_knn")}
    save(tmp_path / "results" / "uncertainty" / "methods-vje", "uncertainty-v2", figures)
    lines = script.views_table().splitlines()
    assert lines[0] == "| study | views | variance | aurc knn | seeds |"
    assert lines[2].startswith("| vje | 1 | 1.000 [")
    assert lines[3].startswith("| vje | 8 | 0.125 [")
    assert len(lines) == 4
    assert "views" not in script.methods_uncertainty_table()


def test_the_choice_shows_scores_that_some_runs_were_not_judged_by(script, tmp_path):
    choice = tmp_path / "results" / "ood" / "choice"
    choice.mkdir(parents=True)
    merits = {"spoiled": 0.5, "class_left_out": 0.6, "merit": 0.55}
    better = dict.fromkeys(merits, 0.7)
    runs = {"old": {"knn": merits}, "new": {"knn": merits, "niw": better}}
    for name, scores in runs.items():
        (choice / f"{name}.json").write_text(json.dumps({"merits": scores}))
    lines = script.choice_table().splitlines()
    assert lines[0].startswith("| score | new: spoiled | new: class left out | new: merit | old: ")
    assert lines[2] == "| `niw` | 0.700 | 0.700 | 0.700 | – | – | – |"
    assert lines[3].startswith("| `knn` | 0.500 ")


def test_of_two_versions_of_a_protocol_the_newer_is_shown(script, tmp_path):
    folder = tmp_path / "results" / "uncertainty" / "small"
    for version, value in ((1, 0.3), (2, 0.6)):
        save(folder, f"uncertainty-v{version}", {"aurc_knn_knn": value})
    (row,) = script.uncertainty_table().splitlines()[2:]
    assert "| aurc_knn | 0.600 [" in row


def test_seeds_of_other_data_are_refused(script, tmp_path):
    folder = tmp_path / "results" / "ood" / "small"
    save(folder, "ood-v1", {"auroc_knn": 0.5}, 0, "mnist")
    save(folder, "ood-v1", {"auroc_knn": 0.5}, 1, "mnist", train="other")
    with pytest.raises(VJEError, match="differ in dataset"):
        script.ood_table()


def test_pages_are_rewritten_between_the_markers(script, tmp_path):
    merits = {"spoiled": 0.5, "class_left_out": 0.6, "merit": 0.55}
    choice = tmp_path / "results" / "ood" / "choice"
    choice.mkdir(parents=True)
    (choice / "a.json").write_text(json.dumps({"aggregate": None, "merits": {"knn": merits}}))
    names = {
        "ood.md": ("choice", "ood", "ood-methods-few", "ood-methods", "one-class"),
        "uncertainty.md": ("uncertainty", "uncertainty-methods", "uncertainty-views"),
    }
    for file, inside in names.items():
        text = "".join(f"before\n<!-- {n}:begin -->\nold\n<!-- {n}:end -->\n" for n in inside)
        (tmp_path / file).write_text(text)
    assert script.main(["--check"]) == 1
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    page = (tmp_path / "ood.md").read_text()
    assert "| `knn` | 0.500 | 0.600 | 0.550 |" in page
    assert "old" not in page
    assert page.count("before") == 5
    with pytest.raises(VJEError, match="choice:begin"):
        update("nothing", "choice", "")


def test_the_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("ood_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0
