"""Hostile runs, opened with every command: each is refused in one line, and nothing happens.

    python -m pytest -m slow tests/campaigns/hostile.py -s

Counts go to ``docs/results/campaigns/hostile.json``; ``VJE_CAMPAIGN_SEED`` repeats a run.
"""

import json
import os
import pickle
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from commandline import TINY, run_cli
from hostile import Watch, hostile, write_package

import vje_pyro
from vje_pyro.errors import CheckpointError
from vje_pyro.provenance import git_commit
from vje_pyro.training.checkpoint import load_checkpoint, save_checkpoint

CASES = 2000
FROM_CHECKPOINT = 0.1
"""Share of the cases in which run.json is lost and the checkpoint holds the configuration."""

RESULT = Path(__file__).parents[2] / "docs/results/campaigns/hostile.json"

COMMANDS = (
    "evaluate {run}", "report {run}", "embed {run} {run} --out {out}", "diagnose {run} --quick",
    "ood {run} --out svhn", "uncertainty {run}", "train resume={run}",
    "compare {out} --run a {run}", "evaluate {run} --data-root {out}", "load",
    "train resume={run} device.accelerator=cpu data.root={out}",
)  # fmt: skip
TRUST = ("", "", " --trust mine", " --trust mine vje_pyro")


class Mark:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def opened(command, path, out):
    """The exit code of a command, or 2 where ``vje_pyro.load`` refuses the run."""
    words = command.format(run=path, out=out).split()
    if words[0] != "load":
        return run_cli(*words)
    try:
        vje_pyro.load(path, trust=[word for word in words[2:] if word != "vje_pyro"])
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def listing(folder):
    found = folder.rglob("*")
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in found if p.name != ".lock"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_hostile_run_is_refused_and_nothing_happens(tmp_path, monkeypatch, capfd):
    seed = int(os.environ.get("VJE_CAMPAIGN_SEED") or random.randrange(2**32))
    with capfd.disabled():
        print(f"seed {seed}")
    rng = random.Random(seed)
    write_package(tmp_path / "path")
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("HOSTILE_MARK", str(tmp_path / "mark"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    path, out = work / "run", tmp_path / "out"
    assert run_cli("train", *TINY, f"run_dir={path}") == 0
    (path / "x.pkl").write_bytes(pickle.dumps(Mark(tmp_path / "mark")))
    info = json.loads((path / "run.json").read_text())
    last = path / "checkpoints" / "last.safetensors"
    shutil.copy(last, tmp_path / "last")
    for command in ("load", "evaluate {run} --protocols knn-v1"):
        assert opened(command, path, out) == 0  # what is imported once is, from here on
    shutil.rmtree(path / "results")
    capfd.readouterr()
    counts, faults = Counter(), []
    for number in range(CASES):
        config = hostile(info["config"], rng)
        if rng.random() < FROM_CHECKPOINT:
            (path / "run.json").unlink(missing_ok=True)
            checkpoint = load_checkpoint(tmp_path / "last")
            checkpoint.config = config
            save_checkpoint(checkpoint, last)
        else:
            (path / "run.json").write_text(json.dumps({**info, "config": config}))
        command = rng.choice(COMMANDS) + rng.choice(TRUST)
        before, watch = listing(work), Watch(packages=None)
        traceback = ""
        with watch.watching():
            try:
                code = opened(command, path, out)
            except BaseException as error:
                code, traceback = -1, f"{type(error).__name__}: {error}"
        error = capfd.readouterr().err.strip()
        found = {
            "executed": bool(watch.seen["executed"]) or (tmp_path / "mark").exists(),
            "written": bool(watch.seen["written"]) or listing(work) != before or out.exists(),
            "network": bool(watch.seen["network"]),
            "tracebacks": bool(traceback) or "Traceback" in error,
            "accepted": code == 0,
        }
        counts.update(name for name, is_so in found.items() if is_so)
        if any(found.values()) or code != 2 or not error.startswith("error: "):
            faults.append(f"{number}: {command}: {found} {traceback} {error[:300]} {watch.seen}")
            (tmp_path / "mark").unlink(missing_ok=True)
    names = ("executed", "written", "network", "tracebacks", "accepted")
    result = {
        "name": "hostile",
        "seed": seed,
        "cases": CASES,
        **{name: counts[name] for name in names},
        "commit": git_commit(),
    }
    with capfd.disabled():
        print(json.dumps(result), *faults[:20], sep="\n")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    assert faults == []
