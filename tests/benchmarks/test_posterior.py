"""What is written of a run's posterior, and the table made of it."""

import json
from types import SimpleNamespace

import posterior
import posterior_table


def figure(value):
    return {"value": value, "low": value - 1, "high": value + 1, "n": 9, "interval": "made up"}


def checks(shift=0.0):
    """Every figure of the table, in the places where ``vje diagnose`` puts them."""
    content = {}
    for number, (name, where) in enumerate(posterior_table.ROWS.items()):
        part = content
        for key in where[:-1]:
            part = part.setdefault(key, {})
        plain = name.startswith(("active", "Pareto"))
        part[where[-1]] = number + shift if plain else figure(number + shift)
    return content


def save(folder, study, seed, shift=0.0):
    file = folder / "diagnostics" / f"{study}-seed{seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"checks": checks(shift)}))


def test_the_table_has_a_column_for_each_model(tmp_path):
    assert posterior_table.posterior_table(tmp_path) == "No results yet."
    save(tmp_path, "methods-vje", 0)
    for seed, shift in enumerate((9.0, 11.0)):
        save(tmp_path, "methods-vje-recommended", seed, shift)
    heading, _, kl, *others = posterior_table.posterior_table(tmp_path).splitlines()
    assert heading == "|  | plain, seeds: 1 | recommended, seeds: 2 |"
    assert kl.startswith("| KL to the prior, nats | 0 [-1, 1]\\* | 10 [")
    assert len(others) == len(posterior_table.ROWS) - 1
    assert any(row.startswith("| active units of 256 | 3 | 13 [") for row in others)


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    run = SimpleNamespace(info={"seed": 3}, config={"data": {}})
    content = {"config": {"data": {"root": "/home"}, "run_dir": "/home"}, "checks": {}}
    done = []
    monkeypatch.setattr(posterior, "load_with_data", lambda *_: run)
    monkeypatch.setattr(posterior, "diagnose", lambda *_: done.append(1) or content)
    for _ in range(2):
        posterior.main(["RUN", "--study", "vje"], tmp_path)
    assert done == [1]
    written = (tmp_path / "diagnostics" / "vje-seed3.json").read_text()
    assert json.loads(written)["config"] == {"data": {}}


def test_the_page_is_up_to_date():
    assert posterior_table.main(["--check"]) == 0
