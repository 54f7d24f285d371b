"""Scenarios that need processes of their own; torch is imported once, then children are forked.

Usage: ``python processes.py DIRECTORY``; writes ``DIRECTORY/report.json`` for test_processes.py.
"""

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
import toy
from lightning_fabric import Fabric

import vje_pyro.training.loop as loop
from vje_pyro.training.checkpoint import load_checkpoint
from vje_pyro.training.interrupt import Interrupted
from vje_pyro.training.monitors import Monitor

KILLS = 20


def fork(function, *args):
    """Run ``function`` in a child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function(*args)
        code = 0
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        code = interrupted.exit_code
    except KeyboardInterrupt:
        code = 99
    finally:
        sys.stdout.flush()
        os._exit(code)


def outcome(pid):
    """Exit code of a child; negative if a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def long_run(run_dir, resume):
    monitor = Monitor(toy.ToyLoader(), toy.normalize, score=lambda bx, by, qx, qy: float(qx.mean()))
    toy.train(
        run_dir, epochs=30, resume=resume, log_every=5, checkpoint_every_steps=3, monitor=monitor
    )


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(descriptor):
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()


def killed_run(run_dir, resume, kill_step, where):
    """A run that kills itself at ``kill_step``, or in the first write of a file after it."""
    seed_step = loop.seed_step
    replace = os.replace

    def replace_and_die(source, target):
        replace(source, target)
        die()

    def hooked(seed, step, rank):
        if step >= kill_step:
            if where == "step":
                die()
            elif where == "half-written":
                os.fsync = die_half_written
            elif where == "before-rename":
                os.replace = die
            else:
                os.replace = replace_and_die
        seed_step(seed, step, rank)

    loop.seed_step = hooked
    long_run(run_dir, resume)


def killed_twenty_times(directory):
    assert outcome(fork(long_run, directory / "whole", False)) == 0
    draw = random.Random(0)
    steps = sorted(draw.sample(range(1, 110), KILLS - 1))
    codes, leftovers = [], 0
    for number, step in enumerate([0, *steps]):
        where = draw.choice(["step", "step", "half-written", "before-rename", "after-rename"])
        pid = fork(killed_run, directory / "killed", number > 0, step, where)
        codes.append(outcome(pid))
        leftovers += len(list((directory / "killed").rglob("*.tmp")))
    assert outcome(fork(long_run, directory / "killed", True)) == 0
    return {"codes": codes, "leftovers": leftovers}


def slow_run(run_dir):
    def slow_views(images):
        time.sleep(0.02)
        return toy.views(images)

    toy.train(run_dir, epochs=1000, make_views=slow_views, log_every=1)


def stubborn_run(run_dir):
    def endless_views(images):
        (run_dir / "in_a_step").touch()
        time.sleep(60)

    toy.train(run_dir, epochs=1000, make_views=endless_views)


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def signalled(directory):
    codes = {}
    for name, number in {"int": signal.SIGINT, "term": signal.SIGTERM}.items():
        run = directory / name
        pid = fork(slow_run, run)
        log = run / "logs" / "steps.csv"
        wait_for(lambda log=log: log.exists() and log.read_text().count("\n") > 3)
        os.kill(pid, number)
        codes[name] = outcome(pid)
        codes[f"{name}_step"] = load_checkpoint(run / "checkpoints" / "last.safetensors").step
        codes[f"{name}_rows"] = log.read_text().count("\n") - 1
    run = directory / "twice"
    pid = fork(stubborn_run, run)
    wait_for((run / "in_a_step").exists)
    os.kill(pid, signal.SIGINT)
    time.sleep(1.2)  # what comes earlier is the same request
    os.kill(pid, signal.SIGINT)
    codes["twice"] = outcome(pid)
    return codes


def in_use(directory):
    """Resuming a run that is still running."""
    pid = fork(slow_run, directory / "running")
    last = directory / "running" / "checkpoints" / "last.safetensors"
    wait_for((directory / "running" / "run.json").exists)
    before = last.stat().st_ino

    def resume():
        try:
            toy.train(directory / "running", resume=True)
        except Exception as error:
            (directory / "in_use.txt").write_text(f"{type(error).__name__}: {error}")

    outcome(fork(resume))
    os.kill(pid, signal.SIGKILL)
    outcome(pid)
    assert before
    return (directory / "in_use.txt").read_text()


def train_plain(run_dir, fabric, accumulate=1):
    loader = toy.ToyLoader(rank=fabric.global_rank, world_size=fabric.world_size)
    method = toy.make_method(noise=0.0, batch_norm=False)
    toy.train(
        run_dir,
        method,
        loader,
        toy.plain_views,
        fabric=fabric,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        accumulate=accumulate,
        monitor=Monitor(toy.ToyLoader(), toy.normalize) if fabric.is_global_zero else None,
    )


def one_process(directory):
    train_plain(directory / "one", Fabric(accelerator="cpu", devices=1))


def two_processes(directory):
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
    fabric.launch(lambda fabric: train_plain(directory / "two", fabric, accumulate=2))


class NotedLoader(toy.ToyLoader):
    """Notes the images of every batch that this process takes."""

    def __init__(self, path, rank, world_size):
        super().__init__(rank=rank, world_size=world_size)
        self.path = path

    def epoch(self, epoch, start_step=0):
        for number, (images, indices) in enumerate(super().epoch(epoch, start_step), start_step):
            with self.path.open("a") as file:
                step = epoch * self.steps_per_epoch + number
                print(json.dumps([step, indices.tolist()]), file=file)
            yield images, indices


def continued(fabric, run_dir, max_steps):
    """Train up to ``max_steps``; the run is resumed if there is one."""
    loader = NotedLoader(
        run_dir.with_suffix(f".{fabric.world_size}.{fabric.global_rank}.json"),
        fabric.global_rank,
        fabric.world_size,
    )
    toy.train(
        run_dir,
        toy.make_method(noise=0.0, batch_norm=False),
        loader,
        toy.plain_views,
        fabric=fabric,
        schedule=lambda step, total: 1.0,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        max_steps=max_steps,
        resume=(run_dir / "run.json").exists(),
    )


def on(number, run_dir, max_steps):
    strategy = "ddp_fork" if number > 1 else "auto"
    fabric = Fabric(accelerator="cpu", devices=number, strategy=strategy)
    fabric.launch(continued, run_dir, max_steps)


def moved(directory):
    """Five steps on two processes, two on one, five on four; and all twelve on one."""
    run = directory / "moved"
    parts = [(2, run, 5), (1, run, 7), (4, run, 12), (1, directory / "unmoved", 12)]
    return [outcome(fork(on, *part)) for part in parts]


def main(directory):
    torch.set_num_threads(1)
    report = {"killed": killed_twenty_times(directory), "signalled": signalled(directory)}
    report["in_use"] = in_use(directory)
    report["one"] = outcome(fork(one_process, directory))
    report["two"] = outcome(fork(two_processes, directory))
    report["moved"] = moved(directory)
    (directory / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
