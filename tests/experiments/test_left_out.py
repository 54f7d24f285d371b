"""Commands on data that cannot give all: what can be had is written, the rest is named."""

import json
import os

import numpy as np
import pytest
from commandline import TINY, run_cli
from PIL import Image

from vje_pyro.errors import WriteError
from vje_pyro.evaluation import Result
from vje_pyro.verbs.partial import output_folder

TRAIN = (
    *TINY, "data=folder", "data.image_size=8", "loader.batch_size=4", "loader.num_workers=0",
    "training.max_steps=1", "monitor.bank=4", "monitor.queries=2",
)  # fmt: skip


def draw(path, count, shade):
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(shade)
    for i in range(count):
        pixels = rng.integers(shade, shade + 100, (10, 9, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02}.png")


def trained(root, splits):
    """A run on a folder with these counts of images by split and class."""
    for split, classes in splits.items():
        for number, (name, count) in enumerate(classes.items()):
            draw(root / "data" / split / name, count, 50 * number)
    run = root / "run"
    assert run_cli("train", *TRAIN, f"data.root={root / 'data'}", f"run_dir={run}") == 0
    return run


def said(capfd):
    """The last line of the errors."""
    error = capfd.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """One class has three images to train on."""
    many = {"ant": 10, "bee": 10}
    splits = {"train": {**many, "cow": 3}, "test": {"ant": 4, "bee": 4, "cow": 4}}
    return trained(tmp_path_factory.mktemp("rare"), splits)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("single"), {"train": {"ant": 8}, "test": {"ant": 2}})


def test_a_rare_class_leaves_out_the_shots_that_it_has_not(rare, tmp_path, capfd):
    assert run_cli("evaluate", rare, "--out", tmp_path / "out") == 3
    line = said(capfd)
    assert line.startswith("error: left out: few-label-v1 accuracy_5, few-label-v1 accuracy_10: ")
    assert "has 3 training images" in line
    results = {p.stem: Result.read(p) for p in (tmp_path / "out").glob("*.json")}
    assert sorted(results) == ["few-label-v1-encoder", "knn-v1-encoder", "linear-v1-encoder"]
    assert list(results["few-label-v1-encoder"].figures) == ["accuracy_1"]
    assert not (rare / "results").exists()  # it was written elsewhere


def test_a_single_class_is_one_line(single, capfd):
    assert run_cli("evaluate", single) == 2
    assert "at least two classes are needed" in said(capfd)
    assert run_cli("uncertainty", single, "--images", 2) == 3
    assert "aurc" in said(capfd)
    figures = json.loads((single / "results" / "uncertainty-v2.json").read_text())["figures"]
    assert "calibration_angle" in figures


def test_a_protocol_that_fails_loses_no_other(rare, tmp_path, capfd, monkeypatch):
    from vje_pyro.evaluation import PROTOCOLS

    def failing(*_):
        raise RuntimeError("it cannot be\nmeasured")

    monkeypatch.setitem(PROTOCOLS, "knn-v1", failing)
    words = ("--protocols", "knn-v1", "linear-v1", "--results", tmp_path)
    assert run_cli("evaluate", rare, *words) == 3
    assert said(capfd) == "error: left out: knn-v1: it cannot be"
    assert [p.name for p in tmp_path.iterdir()] == ["linear-v1-encoder.json"]
    assert run_cli("evaluate", rare, "--protocols", "knn-v1", "--results", tmp_path) == 2
    assert said(capfd) == "error: nothing could be done: knn-v1: it cannot be"


def test_two_outlier_sets_of_one_name_and_one_that_is_none(rare, tmp_path, capfd):
    draw(tmp_path / "a" / "noise", 4, 10)
    draw(tmp_path / "b" / "noise", 5, 90)
    sets = [tmp_path / "a" / "noise", tmp_path / "b" / "noise", tmp_path / "nothing"]
    assert run_cli("ood", rare, "--out", *sets, "--views", 2, "--results", tmp_path / "out") == 3
    assert said(capfd).startswith("error: left out: nothing: ")
    found = {p.stem: Result.read(p).dataset["outliers"] for p in (tmp_path / "out").glob("*.json")}
    assert found == {"ood-v1-a-noise": 4, "ood-v1-b-noise": 5}


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_measured(rare, tmp_path, capfd):
    (tmp_path / "file").touch()
    assert run_cli("evaluate", rare, "--out", tmp_path / "file") == 2
    assert "Choose another folder with --results FOLDER" in said(capfd)


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(WriteError, match=r"read-only.*--results FOLDER"):
        output_folder(tmp_path, None)


def test_checks_that_fail_are_left_out(rare, tmp_path, capfd):
    words = ("--checks", "importance", "sbc_guide", "--images", 3, "--train-images", 4)
    code = run_cli("diagnose", rare, *words, "--out", tmp_path)
    assert code in (0, 3)
    assert "Traceback" not in capfd.readouterr().err
    assert json.loads((tmp_path / "diagnostics.json").read_text())["checks"]
