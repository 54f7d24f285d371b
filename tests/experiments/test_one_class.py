"""``vje one-class``: a model for each class, resumed where it was left."""

import json

import numpy as np
import pytest
from commandline import TINY, run_cli

from vje_pyro.errors import CheckpointError, DataError, VJEError
from vje_pyro.evaluation import Result
from vje_pyro.run import read_run_json
from vje_pyro.verbs.one_class import batch_size, one_class

SMALL = [word for word in TINY if not word.startswith("monitor")] + ["data.test_limit=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("one-class") / "digits"
    assert run_cli("one-class", *SMALL, "classes=[0]", f"run_dir={path}") == 0
    return path


def test_one_class_alone(folder):
    result = Result.read(folder / "one-class-v1.json")
    assert result.settings["classes"] == [0]
    assert {n for n in result.figures if n.startswith("auroc_knn")} == {"auroc_knn", "auroc_knn_0"}
    config = read_run_json(folder / "class0")["config"]
    assert config["data"]["label"] == 0
    assert config["loader"]["batch_size"] == 32
    assert config["data"]["source"]["_target_"].endswith("Digits")


def test_it_goes_on_and_keeps_what_is_there(folder):
    scores = folder / "class0" / "scores.npz"
    before, weights = scores.stat().st_mtime_ns, folder / "class0/checkpoints/last.safetensors"
    stamp = weights.stat().st_mtime_ns
    result = one_class(SMALL, folder, [0, 1])
    assert (scores.stat().st_mtime_ns, weights.stat().st_mtime_ns) == (before, stamp)
    assert set(result.settings["classes"]) == {0, 1}
    each = [result.figures[f"auroc_knn_{label}"].value for label in (0, 1)]
    assert result.figures["auroc_knn"].value == pytest.approx(np.mean(each))
    assert result.figures["auroc_knn"].value > 0.6
    assert "auroc_probe-entropy" not in result.figures  # labels are not for the detector
    scores.unlink()  # as if it had been killed before it scored
    again = one_class(SMALL, folder, [0, 1])
    assert weights.stat().st_mtime_ns == stamp
    assert again.figures == result.figures
    with np.load(scores) as table:
        older = {name: values for name, values in table.items() if name != "dose"}
    np.savez(scores, **older)  # as a version without that score left it
    names = one_class(SMALL, folder, [0, 1]).figures.keys()
    assert names == {name for name in result.figures if name.split("_")[1] != "dose"}


def test_other_settings_need_another_folder(folder):
    with pytest.raises(CheckpointError, match="models of another configuration"):
        one_class([*SMALL, "method.beta=2"], folder, [0])
    one_class([*SMALL, "device.accelerator=cpu"], folder, [0])  # where, not what


@pytest.mark.parametrize(
    ("overrides", "classes", "error", "message"),
    [
        (SMALL, [3, 12], DataError, r"no class \[12\]"),
        (["experiment=nothing"], None, VJEError, "cannot be used"),
    ],
)
def test_bad_input(tmp_path, overrides, classes, error, message):
    with pytest.raises(error, match=message):
        one_class(overrides, tmp_path / "new", classes)
    assert not (tmp_path / "new").exists()


def test_command_line(capfd):
    assert run_cli("one-class", "--help") == 0
    assert "Train a model for each class" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(143, 256, 32), (8, 256, 2), (3, 256, 2), (9000, 256, 256)]
)
def test_batch_size(count, most, expected):
    assert batch_size(count, most) == expected


def test_the_claim_is_readable(folder):
    assert json.loads((folder / "one_class.json").read_text())["name"] == "digits"
