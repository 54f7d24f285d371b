"""Scenarios that need processes of their own; torch is imported once, then children are forked.

Usage: ``python processes.py DIRECTORY``; writes ``DIRECTORY/report.json`` for test_processes.py.
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
import toy
from lightning_fabric import Fabric

from vje_pyro.training.monitors import Monitor


def fork(function, *args):
    """Run ``function`` in a child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function(*args)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def outcome(pid):
    """Exit code of a child; negative if a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def slow_run(run_dir):
    def slow_views(images):
        time.sleep(0.02)
        return toy.views(images)

    toy.train(run_dir, epochs=1000, make_views=slow_views, log_every=1)


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


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
    report = {"in_use": in_use(directory), "moved": moved(directory)}
    report["one"] = outcome(fork(one_process, directory))
    report["two"] = outcome(fork(two_processes, directory))
    (directory / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
