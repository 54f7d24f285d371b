import json
import re

import pytest

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.result import is_result
from vje_pyro.provenance import git_commit


@pytest.fixture
def result():
    return Result(
        protocol="knn-v1",
        dataset={"name": "digits", "train": 1437, "test": 360, "digest": {"train": "ab"}},
        method="vje",
        features="encoder",
        figures={"accuracy": Figure(0.91, 0.88, 0.94, 360, "95% bootstrap over test images")},
        seed=3,
        settings={"k": 20, "temperature": 0.1},
        config={"data": {"name": "digits"}, "lr": 2e-3, "layers": [1, 2]},
        wall_time_s=1.5,
    )


def test_round_trip(result, tmp_path):
    path = result.write(tmp_path / "new" / "folder" / result.filename)
    assert path.name == "vje-encoder-seed3-knn-v1.json"
    assert Result.read(path) == result
    content = json.loads(path.read_text())
    assert (content["schema"], content["schema_version"]) == ("vje-pyro-result", 1)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_says_where_it_comes_from(result):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result.created)
    assert result.versions.keys() >= {"python", "vje-pyro", "torch", "pyro-ppl", "scikit-learn"}
    assert result.commit == git_commit()


@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [
        ("wall_time_s", float("nan"), ValueError),
        ("config", {"object": object()}, TypeError),
        ("figures", {"accuracy": Figure(0.5, float("-inf"), 1, 3, "")}, ValueError),
    ],
)
def test_what_json_cannot_hold_leaves_the_old_file(result, tmp_path, attribute, value, error):
    path = result.write(tmp_path / "result.json")
    before = path.read_bytes()
    setattr(result, attribute, value)
    with pytest.raises(error):
        result.write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reading_what_is_not_a_result(result, tmp_path):
    path = result.write(tmp_path / "result.json")
    text = path.read_text()
    content = json.loads(text)

    def refused(message):
        with pytest.raises(VJEError, match=message):
            Result.read(path)

    path.write_text(text[: len(text) // 2])
    refused("result.json is damaged: not a JSON file")
    path.write_text(json.dumps(content | {"schema_version": 2}))
    refused("version 1, found 'vje-pyro-result' version 2")
    path.write_text('{"loss": 1}')
    refused("found None version None")
    path.write_text("[1, 2]")
    refused("valid dictionary")
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "seed"} | {"sed": 1}))
    refused("seed: Field required; sed: Unexpected keyword argument")
    path.write_text(json.dumps(content | {"figures": {"accuracy": {"value": 1}}}))
    refused(r"figures\.accuracy\.low: Field required")
    path.unlink()
    refused("no result file at .*vje evaluate RUN")


def test_is_result(result, tmp_path):
    assert is_result(result.write(tmp_path / "a.json"))
    for text in ("[1]", '{"schema": "other"}', '{"schema": null}', "3"):
        (tmp_path / "b.json").write_text(text)
        assert not is_result(tmp_path / "b.json")
