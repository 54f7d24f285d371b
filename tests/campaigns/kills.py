"""Kills of ``vje train``, ``vje evaluate`` and ``vje report``: nothing is lost.

    python -m pytest -m slow tests/campaigns/kills.py -s

A forked process is killed before every file operation, half of a file written or not, and at random
moments; then the command is given again. Counts go to ``docs/results/campaigns/kills.json``;
``VJE_CAMPAIGN_SEED`` repeats the moments.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
import torch
from commandline import TINY, run_cli
from operations import operations, tear

from vje_pyro import report
from vje_pyro.errors import CheckpointError
from vje_pyro.evaluation.result import Result
from vje_pyro.provenance import git_commit
from vje_pyro.training.checkpoint import load_checkpoint
from vje_pyro.verbs import evaluate, pretrain

RANDOM = {"train": 80, "evaluate": 15, "report": 15}
"""Kills at random moments of each command."""

RESULT = Path(__file__).parents[2] / "docs/results/campaigns/kills.json"

TRAIN = (
    *TINY, "training.max_steps=7", "training.checkpoint_every_steps=2", "training.log_every=1",
    "training.checkpoint_every_epochs=1", "training.progress=false", "loader.num_workers=0",
)  # fmt: skip
IMPORTED = pretrain, evaluate, report  # before the fork, which takes a second off each case
KILLED = 128 + signal.SIGKILL


def in_child(function, *arguments, after=None):
    """Run a function in a forked process, killed after some seconds; its code and its output."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(write, 1)
            os.dup2(write, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            torch.set_num_threads(1)
            code = function(*arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    with open(read, errors="replace") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def counted(root, number, torn, *command):
    """Give a command and die before its operation of that number; prints them all with None."""
    seen = 0

    def before(name, path):
        nonlocal seen
        if number is None:
            print(f"operation {name} {path}")
        elif seen == number and (not torn or tear(name, path)):
            os._exit(KILLED)
        seen += 1

    with operations(root, before):
        return run_cli(*command)


def commands(run):
    """Of the three stages; of training the one that starts and the one that goes on."""
    return {
        "train": (("train", *TRAIN, f"run_dir={run}"), ("train", f"resume={run}")),
        "evaluate": (("evaluate", str(run)),) * 2,
        "report": (("report", str(run)),) * 2,
    }


def again(stage, run):
    """Give the command again as a user does, and the other one of training where it says so."""
    first, second = commands(run)[stage]
    code, said = in_child(run_cli, *first)
    if code == 2 and stage == "train" and f"vje train resume={run}" in said:
        code, said = in_child(run_cli, *second)
    return code, said


def outcome(stage, run):
    """What must be the same, killed or not."""
    if stage == "train":
        state = load_checkpoint(run / "checkpoints/last.safetensors")
        return {**state.model, **{f"{n}.{k}": v for n, s in state.optimizer.items()
                                  for k, v in s.items()}}  # fmt: skip
    if stage == "evaluate":
        return {p.name: Result.read(p).figures for p in sorted((run / "results").glob("*.json"))}
    page = (run / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    return {"sections": re.findall(r"<h2.*?</h2>", page)}


def same(found, expected):
    def equal(a, b):
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    return found.keys() == expected.keys() and all(equal(found[n], expected[n]) for n in expected)


def check_kept(stage, run):
    """What the killed command left is whole: each file is the old one, the new one, or absent."""
    if stage == "train":
        for path in (run / "checkpoints").glob("*.safetensors"):
            load_checkpoint(path)
    elif stage == "evaluate":
        outcome("evaluate", run)
    elif (run / "report.html").exists():
        outcome("report", run)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks up descriptors in /proc")
def test_no_kill_loses_a_run(tmp_path):
    seed = int(os.environ.get("VJE_CAMPAIGN_SEED") or random.randrange(2**32))
    print(f"seed {seed}")
    rng, counts, faults = random.Random(seed), Counter(), []
    ready = tmp_path / "ready"  # what each stage starts from
    for stage in ("train", "evaluate", "report"):
        before, whole = tmp_path / f"before-{stage}", tmp_path / f"whole-{stage}"
        if ready.exists():
            shutil.copytree(ready, before)
            shutil.copytree(ready, whole)
        first = commands(whole)[stage][0]
        code, said = in_child(counted, whole, None, False, *first)
        assert code == 0, said
        points = re.findall("^operation (.*)$", said, re.M)
        if whole.joinpath("report.html").exists():
            whole.joinpath("report.html").unlink()
        start = time.monotonic()
        assert in_child(run_cli, *(commands(tmp_path / "timed") if stage == "train" else
                                   commands(whole))[stage][0])[0] == 0  # fmt: skip
        seconds = time.monotonic() - start
        expected = outcome(stage, whole)
        moments = [(number, torn) for number, point in enumerate(points)
                   for torn in (False, True)[: 1 + point.endswith((".tmp", ".csv"))]]  # fmt: skip
        moments += [(None, rng.uniform(0, seconds)) for _ in range(RANDOM[stage])]
        for number, moment in moments:
            run = tmp_path / "run"
            shutil.rmtree(run, ignore_errors=True)
            if before.exists():
                shutil.copytree(before, run)
            first = commands(run)[stage][0]
            if number is None:
                code, said = in_child(run_cli, *first, after=moment)
                killed, name = code == -signal.SIGKILL, f"after {moment:.3f} s"
            else:
                code, said = in_child(counted, run, number, moment, *first)
                killed, name = code == KILLED, f"{points[number]}{' torn' * moment}"
            if not killed:
                assert code == 0, said
                counts["not torn" if number is not None else "finished"] += 1
                continue
            counts["kills"] += 1
            counts["enumerated" if number is not None else "random"] += 1
            counts[stage] += 1
            try:
                check_kept(stage, run)
                code, said = again(stage, run)
                if code:
                    faults.append(f"{stage} {name}: {said}")
                    counts["lost"] += 1
                elif not same(outcome(stage, run), expected):
                    faults.append(f"{stage} {name}: another outcome")
                    counts["different"] += 1
                counts["tracebacks"] += "Traceback" in said
            except CheckpointError as error:
                faults.append(f"{stage} {name}: {error}")
                counts["lost"] += 1
        ready = whole
    print(dict(counts))
    names = ("enumerated", "random", "train", "evaluate", "report")
    bad = ("lost", "different", "tracebacks")
    result = {
        "name": "kills",
        "seed": seed,
        "cases": counts["kills"],
        **{name: counts[name] for name in (*names, *bad)},
        "commit": git_commit(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    assert not faults, "\n".join(faults)
    assert counts["kills"] >= 200
