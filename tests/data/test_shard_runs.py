"""Runs on tar shards, by the command line."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from commandline import TINY, run_cli
from PIL import Image
from safetensors.torch import load_file
from shard_files import write_shards
from sklearn.datasets import load_digits

from vje_pyro.data import (
    Views,
    pack_folder,
)

pytest.importorskip("braceexpand", reason="it is of the extra shards")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Shards of 300 digits to train on and 100 to test, of ten classes."""
    folder, root = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("shards")
    pixels, labels = load_digits(return_X_y=True)
    for i in range(400):
        place = folder / ("train" if i < 300 else "test") / f"class{labels[i]}"
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels[i].reshape(8, 8) * 15.9).astype(np.uint8))
        image.save(place / f"{i}.png")
    pack_folder(folder / "train", root, "train", per_shard=40)
    pack_folder(folder / "test", root, "test", per_shard=40)
    return root


def arguments(root, run, workers=2):
    return (
        *TINY, "data=webdataset", f"data.root={root}", "data.pretrain='train-{000000..000007}.tar'",
        "data.test=test-*.tar", "data.image_size=8", "data.channels=1", "data.mean=[0.3]",
        "data.std=[0.3]", "loader.batch_size=64", f"loader.num_workers={workers}", f"run_dir={run}",
    )  # fmt: skip


def weights(run):
    return load_file(run / "checkpoints" / "last.safetensors")


@pytest.fixture(scope="module")
def run_dir(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "whole"
    assert run_cli("train", *arguments(digits, path)) == 0
    return path


def test_a_run_is_trained_evaluated_and_reported(run_dir, capsys):
    log = (run_dir / "train.log").read_text()
    assert "300 images to train on" in log
    assert "2 epochs of 4 steps of 64 images" in log
    epochs = (run_dir / "logs" / "epochs.csv").read_text().splitlines()
    knn = epochs[0].split(",").index("knn")
    assert float(epochs[-1].split(",")[knn]) > 0.1  # the online monitor saw labels
    assert run_cli("evaluate", run_dir, "--protocols", "knn-v1") == 0
    result = json.loads((run_dir / "results" / "knn-v1-encoder.json").read_text())
    assert "webdataset" in json.dumps(result)
    assert "accuracy" in capsys.readouterr().out
    assert run_cli("report", run_dir) == 0
    assert "class7" in (run_dir / "report.html").read_text()


def test_an_interrupted_run_goes_on_to_the_same_weights(digits, run_dir, tmp_path, monkeypatch):
    made = []
    from_crops = Views.from_crops

    def interrupting(views, crops):
        made.append(len(crops))
        if len(made) == 7:  # one to validate; then in the second step of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return from_crops(views, crops)

    path = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(Views, "from_crops", interrupting)
        assert run_cli("train", *arguments(digits, path, workers=0)) != 0
    assert len(made) == 7
    assert any(not torch.equal(w, weights(run_dir)[name]) for name, w in weights(path).items())
    assert run_cli("train", f"resume={path}", "loader.num_workers=1") == 0
    whole = weights(run_dir)
    assert all(torch.equal(value, whole[name]) for name, value in weights(path).items())


def test_bad_input_is_one_clear_line(digits, tmp_path, capfd):
    options = [o for o in arguments(digits, tmp_path / "new") if not o.startswith("data.pretrain")]
    for command, message in (
        (("train", *options, "data.pretrain=none-*.tar"), "pattern 'none-*.tar' names none-*.tar"),
        (("shards", "index", digits, "--shards", "val-*.tar"), "error: no shard"),
        (("shards", "index", "https://nowhere.invalid"), "set --out FILE"),
    ):
        assert run_cli(*command) == 2
        error = capfd.readouterr().err
        assert message in error
        assert "Traceback" not in error


def test_labels_are_missing_where_they_are_needed(run_dir, tmp_path, capfd):
    """Also: the configuration of a run of an earlier version."""
    write_shards(tmp_path, [20], label=None)
    write_shards(tmp_path, [20], name="test", label=None)
    assert run_cli("shards", "index", tmp_path) == 0
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "checkpoints").symlink_to(run_dir / "checkpoints")
    info = json.loads((run_dir / "run.json").read_text())
    info["config"]["data"] |= {
        "root": str(tmp_path), "pretrain": "train-*.tar", "streams": 4, "shuffle_buffer": 8192,
    }  # fmt: skip
    (moved / "run.json").write_text(json.dumps(info))
    assert run_cli("evaluate", moved, "--protocols", "knn-v1") != 0
    assert "no image of the train split has a label" in capfd.readouterr().err
