"""Results as lines: what is written is read, whole or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_up import record

from studies import ROOT
from studies.store import HEADER, Store, digest, read_result, scrubbed
from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.evaluation import Figure, Result


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_what_is_written_is_read(store):
    config = {"seed": 0, "method": {"beta": 0.1 + 0.2}}
    first = record("a", "knn-v1", {"accuracy": 1 / 3, "b": 0.1}, config=config, details={"k": [1]})
    first.result.figures["c"] = Figure(0.5, 0.25, 1e-17, 3, "another")
    first.result.figures["d"] = Figure(0.5, 0.5, 0.5, 4000, "made up")
    second = record("a", "knn-v1", {"accuracy": 0.2}, 1, config={**config, "seed": 1})
    store.add("small", [first])
    store.add("small", [second])
    assert store.read("small") == [first, second]
    assert list(store.read("small")[0].result.figures) == ["accuracy", "b", "c", "d"]
    assert store.read("absent") == []


def test_what_many_share_is_stored_once(store):
    config = {"seed": 0, "method": {"beta": 1.0}, "data": {}}
    store.add("a", [record("x", "knn-v1", {}, s, config={**config, "seed": s}) for s in (0, 1)])
    store.add("b", [record("x", "knn-v1", {}, config=dict(reversed(config.items())))])
    shared = store.path("common").read_text().splitlines()[1:]
    assert len(shared) == 3  # one configuration, one data set, the versions
    values = {json.loads(line)["hash"]: json.loads(line)["value"] for line in shared}
    assert all(digest(value) == key for key, value in values.items())


def test_a_result_is_not_stored_twice(store):
    store.add("a", [record("x", "knn-v1", {"accuracy": 0.1})])
    before = store.path("a").read_bytes()
    with pytest.raises(VJEError, match=r"has a result of .*'x', 'knn-v1', 'encoder', 0"):
        store.add("a", [record("y", "knn-v1", {}), record("x", "knn-v1", {"accuracy": 0.2})])
    assert store.path("a").read_bytes() == before
    parts = [record("x", "ood-v1", {}, dataset={"out": out}) for out in ("dtd", "mnist")]
    parts += [record("x", "d-v1", {}, details={"name": name}) for name in ("short", "long")]
    store.add("a", parts)
    assert len(store.read("a")) == 5


def test_many_at_a_time_lose_none(store):
    def add(seed):
        store.add("a", [record("x", "knn-v1", {"accuracy": 0.5}, seed, config={"lr": seed})])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert sorted(r.result.seed for r in store.read("a")) == list(range(12))


def test_files_that_were_merged_are_read(store):
    store.add("a", [record("x", "knn-v1", {})])
    path = store.path("a")
    path.write_text(path.read_text() + json.dumps(HEADER) + "\n")
    assert len(store.read("a")) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[: len(text) - 20], "damaged"),
        (lambda text: text.replace('version":1', 'version":9'), "schema_version.*found"),
        (lambda text: text.split("\n", 1)[1], "expected"),
        (lambda text: text.replace('"seed":0', '"seed":"0"'), "line 2.*seed"),
        (lambda text: text.replace('"config":"', '"config":"0'), "line 2"),
        (lambda text: text.replace("[0.5,", "["), "line 2"),
    ],
)
def test_damage_is_named(store, spoil, message):
    store.add("a", [record("x", "knn-v1", {"accuracy": 0.5})])
    store.path("a").write_text(spoil(store.path("a").read_text()))
    with pytest.raises(CheckpointError, match=message):
        store.read("a")


def test_folders_are_nobodys_business(store):
    data = {"root": "/home/me", "source": {"root": "/home/me", "name": "cifar10"}}
    config = {"run_dir": "/home/me/run", "data": data, "seed": 0}
    made = record("x", "knn-v1", {}, config=config)
    store.add("a", [made])
    assert "/home" not in store.path("common").read_text()
    assert store.read("a")[0].result.config == {"data": {"source": {"name": "cifar10"}}, "seed": 0}
    assert made.result.config["data"]["root"] == "/home/me"
    assert scrubbed({}) == {}


def test_a_diagnosis_is_a_result(tmp_path):
    content = {
        "schema": "vje-pyro-diagnostics", "schema_version": 2, "method": "VJE", "dataset": "digits",
        "images": {"heldout": 3}, "data": "pairs", "seed": 1, "training_seed": 2, "commit": "ab",
        "checkpoint": "/home/last", "config": {"seed": 2}, "versions": {}, "created": "today",
        "checks": {"latent": {"kl": 1.5}},
    }  # fmt: skip
    path = tmp_path / "diagnostics.json"
    path.write_text(json.dumps(content))
    result = read_result(path)
    assert (result.protocol, result.seed) == ("diagnostics-v2", 2)
    assert result.details == {"checks": {"latent": {"kl": 1.5}}}
    path.write_text("{}")
    with pytest.raises(CheckpointError, match="holds no result"):
        read_result(path)


def test_all_results_of_the_repository_are_lines():
    folder = ROOT / "docs" / "results"
    kinds = ('"vje-pyro-result"', '"vje-pyro-diagnostics"')
    stray = [p for p in folder.rglob("*.json") if any(k in p.read_text()[:99] for k in kinds)]
    assert not stray, "add them: python -m studies add STUDY VARIANT FILE …"
    studies = [path.stem for path in folder.glob("*.jsonl") if path.stem != "common"]
    records = {study: Store(folder).read(study) for study in studies}
    assert all(isinstance(r.result, Result) for found in records.values() for r in found)
    assert len({r.key for r in records["methods"]}) == len(records["methods"]) >= 315
