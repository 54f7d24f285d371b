"""Bad input of every command: exit code 2, one clear message, nothing made and nothing changed."""

import pytest
import torch
from commandline import TINY, run_cli

LINES = [
    # The commands and their options.
    ("trane", 'Unknown command "trane". Did you mean "train"?'),
    ("evaluate", "RUN requires an argument"),
    ("evaluate {run} --feature encoder", "Did you mean --features?"),
    ("evaluate {run} --features logits", 'Invalid value "logits" for --features'),
    ("evaluate {run} --checkpoint epoch_0099", "it has ['best', 'last']"),
    ("evaluate {run} --device cuda:7", "'cuda:7' cannot be used"),
    ("evaluate {run} --data-root /x", "are not read from a folder"),
    ("embed {run} . --out {new}.csv", "must end in one of"),
    # What is not there.
    *((f"{command} /nowhere", "no run at /nowhere")
      for command in ("evaluate", "ood", "diagnose", "export --to onnx", "report")),
    ("embed {run} /nowhere --out {new}.npz", "/nowhere"),
    ("ood {run} --ood-root /nowhere", "no out-of-distribution set in /nowhere/ood"),
    ("ood {run} --out svhm", "no out-of-distribution set 'svhm'"),
    ("uncertainty {run} --cifar10h x.npz", "CIFAR-10H labels the test images"),
    ("compare {new} --run a", "needs a run directory"),
    ("compare {new} --run a nowhere", "no run at nowhere"),
    ("compare {new}", "nothing to compare"),
    ("compare {new} --run a x --run a y", "a label is given twice"),
    ("one-class TINY classes=[a] run_dir={new}", "classes must be numbers"),
    # Values of a training.
    ("train TINY run_dir={run}", "already holds a run, which is never overwritten"),
    ("train TINY run_dir={new} data=cifar10 data.root=/nowhere", "/nowhere"),
    ("train TINY run_dir={new} loader.batch_size=5000", "are fewer than one batch of 5000"),
    ("train TINY run_dir={new} encoder.widths=[2]", "at least 3, got 2"),
    ("train TINY run_dir={new} likelihood.direction.df=-1", "direction.df=-1: must be above 0"),
    ("train TINY run_dir={new} likelihood.radius.scale=0", "radius.scale=0: must be above 0"),
    ("train TINY run_dir={new} method.beta=-1", "method.beta=-1: must be at least 0"),
    ("train TINY run_dir={new} views.crop_scale=[0.5,2]", "crop_scale"),
    ("train TINY run_dir={new} device.accelerator=cuda", "device.accelerator=cpu"),
    ("train TINY run_dir={new} init_from=/nowhere", "/nowhere"),
    ("train TINY run_dir={new} optimizer.lr=1e30", "last good checkpoint"),
    # Overrides that do not compose.
    ("train run_dir={new} experiment=digitz", "Could not find 'experiment/digitz'"),
    ("train run_dir={new} training.epoch=3",
     "error: training.epoch=3: there is no key training.epoch; did you "),
    ("train run_dir={new} encoder=null",
     "Config group override must be a string or a list. Got NoneType"),
    ("train run_dir=null", "error: run_dir=null: must be text"),
    ("train run_dir={new} seed=[1", "error: seed=[1 cannot be read: quote a text as "),
    ("train experiment=digits name=数据",
     "name=数据 cannot be read: quote a text as name='\"数据\"'"),
    ("train experiment=digits seeed=0 monitor.bnk=1",
     "seeed=0: there is no key seeed; did you mean seed?"),
    ("train experiment=digits -m seeed=0,1", "seeed=0: there is no key seeed; did you mean seed?"),
    ("train experiment=digits -m encoder=small_resnet,nope", "Could not find 'encoder/nope'"),
    ("train experiment=digits logger=[csv,wnadb]", "logger/wnadb'.: did you mean wandb?"),
    ("train experiment=digits logger=wandb logger.wandb.projekt=x",
     "there is no key logger.wandb.projekt; did you mean logger.wandb.project?"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), LINES, ids=[line for line, _ in LINES])
def test_bad_input_is_one_clear_message(run_dir, tmp_path, monkeypatch, capfd, line, message):
    if "accelerator=cuda" in line and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in (run_dir / "run.json", run_dir / "train.log")}
    words = []
    for word in line.split():
        words += TINY if word == "TINY" else [word.format(run=run_dir, new=tmp_path / "new")]
    assert run_cli(*words) == 2
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
    if "TINY" not in line:  # found before anything starts
        assert not any(tmp_path.iterdir())
    if words[0] == "train" and "TINY" not in line:
        assert all("there is no key" in more for more in error.strip().splitlines()[1:])
    assert before == {p: p.read_bytes() for p in before}
