"""Result files of the Bayesian heads, and the table made of them."""

import json
from types import SimpleNamespace

import heads
import heads_table
import ood_table
import pytest

from vje_pyro.evaluation import Figure, Result


def result(seed=0, shift=0.0, config=None):
    figures = {
        f"{metric}_{head}_{labels}": Figure(value + shift, value, value + 0.1, 10, "over draws")
        for labels in (1, 10)
        for head in ("logistic-points", "niw-posterior")
        for metric, value in (("accuracy", 0.3), ("nll", 2.0), ("ece", 0.1))
    }
    dataset = {"name": "toy", "digest": {"train": "a"}}
    config = config or {"data": {}}
    return Result("bayes-heads-v1", dataset, "VJE", "encoder", figures, seed, config=config)


@pytest.fixture
def run_with(monkeypatch):
    """Let the script load a run of this seed, and count its evaluations."""
    done = []

    def use(seed):
        run = SimpleNamespace(info={"seed": seed}, method=None)
        config = {"data": {"root": "/home"}, "run_dir": "/home"}
        monkeypatch.setattr(heads, "load_with_data", lambda *_: run)
        monkeypatch.setattr(
            heads,
            "evaluate_run",
            lambda *_: done.append(seed) or [result(seed, 0.2 * seed, config)],
        )

    use.done = done
    return use


def test_files_and_table(run_with, tmp_path, monkeypatch):
    for seed in (0, 1, 1):
        run_with(seed)
        heads.main(["RUN", "--study", "small"], tmp_path)
    assert run_with.done == [0, 1]  # what is there is not made again
    files = sorted((tmp_path / "heads" / "small").iterdir())
    assert [json.loads(file.read_text())["config"] for file in files] == [{"data": {}}] * 2
    monkeypatch.setattr(ood_table, "RESULTS", tmp_path)
    lines = heads_table.heads_table().splitlines()
    heading = "study | labels a class | head | reads | accuracy | NLL, nats | ECE | seeds"
    assert lines[0] == f"| {heading} |"
    rows = [line.split(" | ")[:5] for line in lines[2:]]
    assert [row[:4] for row in rows] == [
        ["| small", labels, *head]
        for labels in ("1", "10")
        for head in (["logistic", "points"], ["niw", "posterior"])
    ]
    assert all(row[4].startswith("0.400 [") for row in rows)


def test_the_page_is_up_to_date():
    assert heads_table.main(["--check"]) == 0
