"""The tables of the study of methods: what they say of made-up results, and the page."""

import json

import methods
import methods_table
import performance
import pytest

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result


def write(folder, protocol, values, seed=0, name=None, digest="ab"):
    figures = {k: Figure(v, v - 0.01, v + 0.01, 100, "made up") for k, v in values.items()}
    dataset = {"name": "cifar10", "digest": {"train": digest}}
    result = Result(protocol, dataset, "M", "encoder", figures, seed)
    result.write(folder / (name or result.filename))


@pytest.fixture
def study(tmp_path):
    study = methods.Study("cifar10_small", root=tmp_path)
    for rate, accuracy in ((1e-3, 0.3), (5e-4, 0.5), (2.5e-4, 0.4)):
        for method in ("byol", "vje"):
            file = study.rate_file(method, rate)
            write(file.parent, methods.SEARCH_PROTOCOL, {"accuracy": accuracy}, name=file.name)
    labels = {f"accuracy_{n}": 0.1 for n in (1, 5, 10)}
    for method, seed, accuracy in (("byol", 0, 0.41), ("byol", 1, 0.43), ("vje", 0, 0.5)):
        folder = study.results(method)
        write(folder, "knn-v1", {"accuracy": accuracy}, seed)
        write(folder, "linear-v1", {"accuracy": 0.6}, seed)
        write(folder, "few-label-v1", labels, seed)
        write(folder, "training-v1", {"rankme": 30.0, "peak_memory_mib": 700.0}, seed)
    return study


def rows(table):
    lines = table.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_search_shows_what_was_taken_and_what_is_missing(study):
    found = {row[0]: row[1:] for row in rows(methods_table.search_table(study))}
    assert found["`byol`"] == ["40.0", "**50.0**", "30.0", ""]
    assert found["`vicreg`"] == ["", "not run yet", "not run yet", ""]
    assert len(found) == len(methods.METHODS)


def test_the_best_comes_first_with_its_rate_figures_and_cost(study, tmp_path, monkeypatch):
    cost = {"16px_byol_to_bound": {"value": 1.5, "low": 1.4, "high": 1.6}}
    path = tmp_path / "cost.json"
    path.write_text(json.dumps({"figures": cost}))
    monkeypatch.setattr(methods_table, "COST", path)
    best, second, *others = rows(methods_table.results_table(study))
    assert best[:3] == ["`vje`", "0.0005", "50.0 [49.0, 51.0]\\*"]
    assert (best[-2], best[-1]) == ("", "0")
    assert second[0] == "`byol`"
    assert second[2] == "42.0 [29.3, 54.7]"  # ± t(0.975, 1) · 0.0141 / √2
    assert (second[-2], second[-1]) == ("1.50 [1.40, 1.60]", "0, 1")
    assert {row[2] for row in others} == {"not run yet"}


def test_results_of_different_data_are_refused(study):
    write(study.results("byol"), "knn-v1", {"accuracy": 0.4}, seed=2, digest="cd")
    with pytest.raises(VJEError, match="byol / knn-v1"):
        methods_table.results_table(study)


def test_the_page_is_up_to_date():
    assert methods_table.main(["--check"]) == 0


def test_every_method_is_timed_beside_the_encoder(tmp_path, monkeypatch, known_times):
    pytest.importorskip("lightly", reason="lightly is an extra")
    small = ["method=byol", "method.hidden_dim=8", "method.output_dim=8", "method.predictor_dim=8"]
    monkeypatch.setattr(methods, "METHODS", {"vje": [], "byol": small})
    known_times(performance, {"bound": 2, "vje": 3, "byol": 4})
    arguments = ["--blocks", "2", "--batch", "8", "--width", "16", "--image-sizes", "8"]
    performance.main(["methods", "--out", str(tmp_path), *arguments])
    figures = json.loads((tmp_path / "methods-cpu.json").read_text())["figures"]
    assert set(figures) == {"8px_bound_ms", "8px_vje_to_bound", "8px_byol_to_bound"}
    ratios = [figures[f"8px_{name}_to_bound"]["value"] for name in methods.METHODS]
    assert ratios == [1.5, 2]
