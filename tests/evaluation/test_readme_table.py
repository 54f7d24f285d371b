import importlib.util
import json
from pathlib import Path

import pytest

from vje_pyro.evaluation import Figure, Result

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "readme_table.py"
spec = importlib.util.spec_from_file_location("readme_table", SCRIPT)
readme_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readme_table)


def write(folder, value, *, seed=0, method="vje", protocol="knn-v1", name="accuracy", k=20):
    result = Result(
        protocol=protocol,
        dataset={"name": "cifar10", "digest": {"train": "ab", "test": "cd"}},
        method=method,
        features="encoder",
        figures={name: Figure(value, value - 0.01, value + 0.02, 4000, "")},
        seed=seed,
        settings={"k": k},
    )
    return result.write(folder / result.filename)


@pytest.fixture
def paths(tmp_path):
    results, readme = tmp_path / "results", tmp_path / "README.md"
    results.mkdir()
    readme.write_text("# Title\n\n<!-- results:begin -->\n<!-- results:end -->\n\nThe end.\n")
    return results, readme


def run(paths, *arguments):
    results, readme = paths
    return readme_table.main([*arguments, "--results", str(results), "--readme", str(readme)])


def test_table(paths):
    results, readme = paths
    for seed, value in enumerate([0.40, 0.42, 0.44]):
        write(results / "small", value, seed=seed)
    write(results / "small", 0.5, protocol="few-label-v1", name="accuracy_5")
    write(results / "small", 0.37, method="simsiam")
    write(results / "full" / "long", 0.8)
    (results / "timings.json").write_text(json.dumps([1.0, 2.0]))
    assert run(paths) == 0
    lines = readme.read_text().splitlines()
    # t(2, 0.975) = 4.303 and a standard error of 0.02 / sqrt(3): 42 plus or minus 5.0.
    assert lines[3:8] == [
        "| study | method | features | kNN | 5 labels | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
        "| full/long | vje | encoder | 80.0 [79.0, 82.0]\\* |  | 1 |",
        "| small | simsiam | encoder | 37.0 [36.0, 39.0]\\* |  | 1 |",
        "| small | vje | encoder | 42.0 [37.0, 47.0] | 50.0 [49.0, 52.0]\\* | 1–3 |",
    ]
    assert (lines[0], lines[-1]) == ("# Title", "The end.")


def test_figures_that_are_no_accuracies(paths):
    results, readme = paths
    for seed, value in enumerate([50.0, 54.0]):
        figures = {"rankme": Figure(value, value, value, 1, "one run")}
        result = Result("training-v1", {"name": "cifar10"}, "vje", "encoder", figures, seed)
        result.write(results / "many" / result.filename)
    result.write(results / "one" / result.filename)
    write(results / "one", 20.0, seed=1, protocol="latent-v1", name="latent_gain")
    assert run(paths) == 0
    lines = readme.read_text().splitlines()
    # t(1, 0.975) = 12.706 and a standard error of 2
    assert lines[3] == "| study | method | features | RankMe | gain by z | seeds |"
    assert lines[5:7] == [
        "| many | vje | encoder | 52.0 [26.6, 77.4] |  | 2 |",
        "| one | vje | encoder | 54.0\\* | 20.0 [20.0, 20.0]\\* | 1 |",
    ]
    assert "in nats per datum" in lines[8]


def test_check_sees_a_new_result_and_a_touched_figure(paths):
    results, readme = paths
    write(results / "small", 0.4)
    assert run(paths, "--check") == 1
    assert "0.4" not in readme.read_text()
    assert run(paths) == 0
    assert run(paths, "--check") == 0
    assert run(paths) == 0
    text = readme.read_text()
    readme.write_text(text.replace("40.0", "41.0"))
    assert run(paths, "--check") == 1
    assert run(paths) == 0
    assert readme.read_text() == text


def test_no_results(paths):
    assert run(paths) == 0
    assert "No results yet." in paths[1].read_text()


def test_figures_that_cannot_be_averaged(paths, capsys):
    results, readme = paths
    before = readme.read_text()
    write(results / "small", 0.4, seed=0)
    write(results / "small", 0.4, seed=1, k=200)
    assert run(paths) == 2
    assert "seeds 0 and 1 differ in settings ({'k': 20} and {'k': 200})" in capsys.readouterr().err
    write(results / "small", 0.4, seed=1).rename(results / "small" / "copy.json")
    write(results / "small", 0.4, seed=1)
    assert run(paths) == 2
    assert "seeds [0, 1, 1] repeat" in capsys.readouterr().err
    assert readme.read_text() == before


def test_damaged_result(paths, capsys):
    path = write(paths[0] / "small", 0.4)
    path.write_text(path.read_text()[:50])
    assert run(paths) == 2
    assert path.name in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "<!-- results:end --><!-- results:begin -->"])
def test_readme_without_markers(paths, capsys, text):
    paths[1].write_text(text)
    assert run(paths) == 2
    assert "<!-- results:begin -->" in capsys.readouterr().err
    assert paths[1].read_text() == text


def test_the_readme_is_up_to_date():
    assert readme_table.main(["--check"]) == 0


def test_the_page_of_the_ablation_is_up_to_date():
    docs = SCRIPT.parents[1] / "docs"
    page, results = docs / "ablation.md", docs / "results" / "ablation"
    assert readme_table.main(["--check", "--results", str(results), "--readme", str(page)]) == 0


def test_the_ablation_has_a_page_of_its_own(paths):
    write(paths[0] / "ablation" / "df-3", 0.4)
    assert run(paths) == 0
    assert "No results yet." in paths[1].read_text()
