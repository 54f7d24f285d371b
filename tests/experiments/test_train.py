"""``vje train`` from the command line: what it leaves behind, and what it refuses."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from commandline import TINY, run_cli
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

from vje_pyro.errors import VJEError
from vje_pyro.training.devices import make_fabric
from vje_pyro.training.step import compile_encoder
from vje_pyro.verbs import pretrain
from vje_pyro.verbs.pretrain import resume


def weights(run):
    return load_file(run / "checkpoints" / "last.safetensors")


def test_a_run_directory_holds_everything(run_dir):
    info = json.loads((run_dir / "run.json").read_text())
    assert info["config"]["method"]["_target_"] == "vje_pyro.models.VJE"
    assert info["config"]["image"] == {"channels": 1, "size": 8}
    assert info["seed"] == 0
    names = {p.relative_to(run_dir).as_posix() for p in run_dir.rglob("*") if p.is_file()}
    assert {
        "run.json", "train.log", "logs/steps.csv", "logs/epochs.csv",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors",
    } <= names  # fmt: skip
    assert "epochs of 5 steps of 256 images" in (run_dir / "train.log").read_text()


@pytest.mark.slow
def test_a_compiled_run_is_the_run(tmp_path, monkeypatch):
    traced = partial(compile_encoder, backend="aot_eager")  # the graphs, but not their compilation
    monkeypatch.setattr(pretrain, "compile_encoder", traced)
    exact = (*TINY, "device.precision=32-true")  # bfloat16 is rounded elsewhere in the graphs
    assert run_cli("train", *exact, f"run_dir={tmp_path / 'a'}") == 0
    assert run_cli("train", *exact, "device.compile=default", f"run_dir={tmp_path / 'b'}") == 0
    expected, found = weights(tmp_path / "a"), weights(tmp_path / "b")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_same_command_gives_the_same_weights_and_another_seed_others(run_dir, tmp_path):
    assert run_cli("train", *TINY, f"run_dir={tmp_path / 'a'}") == 0
    assert run_cli("train", *TINY, "seed=1", f"run_dir={tmp_path / 'b'}") == 0
    first, again, other = (weights(p) for p in (run_dir, tmp_path / "a", tmp_path / "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_finished_run_resumes_to_itself(run_dir, tmp_path):
    path = tmp_path / "run"
    assert run_cli("train", *TINY, "training.max_steps=7", f"run_dir={path}") == 0
    before = weights(path)
    assert run_cli("train", f"resume={path}", "training.progress=false") == 0
    assert all(torch.equal(before[name], value) for name, value in weights(path).items())


def test_init_from_takes_weights_only(run_dir, tmp_path):
    path = tmp_path / "run"
    lr = "optimizer.lr=0"
    assert run_cli("train", *TINY, lr, f"init_from={run_dir}", f"run_dir={path}") == 0
    old, new = weights(run_dir), weights(path)
    key = "model.encoder.stem.0.weight"
    torch.testing.assert_close(old[key], new[key])
    assert (path / "logs" / "steps.csv").read_text().count("\n") == 2  # its own steps, from zero


def test_multirun_gives_each_job_a_directory(tmp_path):
    sweep = f"hydra.sweep.dir={tmp_path}"
    assert run_cli("train", "-m", *TINY, "training.max_steps=1", "seed=0,1", sweep) == 0
    seeds = [json.loads((tmp_path / n / "run.json").read_text())["seed"] for n in ("0", "1")]
    assert seeds == [0, 1]


def test_resume_refuses_what_would_change_the_run(run_dir, tmp_path):
    with pytest.raises(VJEError, match=r"'training.epochs=9'.*only .*device\..*init_from="):
        resume(run_dir, ["training.epochs=9"])
    with pytest.raises(VJEError, match=r"no run at .*nowhere"):
        resume(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), {"mlflow"}),
        (("logger=none",), set()),
        (("logger=[csv,wandb]", "logger.wandb.offline=true"), {"wandb"}),
    ],
)
def test_a_resumed_run_may_have_other_trackers(run_dir, tmp_path, monkeypatch, words, names):
    info = json.loads((run_dir / "run.json").read_text())
    info["config"]["logger"] = {"mlflow": {"_target_": "vje_pyro.training.trackers.MLflow"}}
    info["config"]["training"]["tensorboard"] = True  # as runs of older versions have it
    (tmp_path / "run.json").write_text(json.dumps(info))
    resumed = []
    monkeypatch.setattr(pretrain, "pretrain", lambda config, *_, **__: resumed.append(config))
    resume(tmp_path, words)
    (config,) = resumed
    assert config.logger.keys() == names
    assert "tensorboard" not in config.training
    assert OmegaConf.select(config, "logger.wandb.offline", default=True)


def test_resume_refuses_code_of_a_stranger(run_dir, tmp_path):
    info = json.loads((run_dir / "run.json").read_text())
    info["config"]["method"]["_target_"] = "os.system"
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(VJEError, match=r"names 'os.system', which is outside of"):
        resume(tmp_path)


def test_precision_follows_the_hardware_or_the_user():
    device = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
    asked = make_fabric(OmegaConf.create(device | {"precision": "bf16-mixed"}))
    assert asked._precision.precision == "bf16-mixed"
    chosen = make_fabric(OmegaConf.create(device | {"precision": "auto"}))._precision.precision
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert chosen == ("bf16-mixed" if fast else "32-true")
    with pytest.raises(VJEError, match="8-true"):
        make_fabric(OmegaConf.create(device | {"precision": "8-true"}))


def test_a_resumed_run_wants_the_images_it_began_with(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for i in range(26):
        folder = tmp_path / "data" / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    run = tmp_path / "run"
    words = [
        *TINY, "data=folder", f"data.root={tmp_path / 'data'}", "data.image_size=8",
        "loader.batch_size=8", "loader.num_workers=0", "training.max_steps=2",
        "monitor.bank=10", "monitor.queries=2",
    ]  # fmt: skip
    assert run_cli("train", *words, f"run_dir={run}") == 0
    (tmp_path / "data").rename(tmp_path / "moved")  # a moved folder is the same data
    moved = f"data.root={tmp_path / 'moved'}"
    assert run_cli("train", f"resume={run}", moved) == 0
    (tmp_path / "moved/train/a/00.png").unlink()
    capfd.readouterr()
    assert run_cli("train", f"resume={run}", moved) == 2
    error = capfd.readouterr().err
    assert "changed since the run began: there are 25 now" in error
    assert error.count("\n") == 1
    assert run_cli("train", f"resume={run}", moved, "data_changed=true") == 0
    assert run_cli("train", f"resume={run}", moved) == 0  # it was insisted once
    info = json.loads((run / "run.json").read_text())
    assert len(info.pop("data_digest")) == 64
    (run / "run.json").write_text(json.dumps(info))  # as an older version wrote it
    (tmp_path / "moved/train/a/02.png").unlink()
    assert run_cli("train", f"resume={run}", moved) == 0
