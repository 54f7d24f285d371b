"""What the machine refuses ends a command with one line, and a run in use is left alone."""

import errno
import os
import re
import resource

import pytest
import torch
from commandline import TINY, run_cli
from safetensors.torch import load_file

from vje_pyro import atomic
from vje_pyro.experiments.common import reported
from vje_pyro.training.run_dir import RunDir

SHORT = (*TINY, "training.max_steps=3", "loader.num_workers=0")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, "Read-only file system", "a/b"), "refuses: .*Read-only .*'a/b'"),
        (OSError(errno.EMFILE, "Too many open files"), "refuses: .*Too many open files"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "refuses: .*Permission denied"),
        (MemoryError(), "not have enough memory or file handles for it: MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried …\nmore"), "CUDA out of memory. Tried"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "can't allocate"),
        (RuntimeError("unable to open </torch_1>: Too many open files (24)"), "Too many open"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "libx.so"),
        (RuntimeError("unable to write to file: No space left on device (28)"), "No space left"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(capsys, error, message):
    with pytest.raises(SystemExit) as stop, reported():
        raise error
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="mat1 and mat2"), reported():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def last_line(capfd):
    said = capfd.readouterr().err
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def test_a_full_disk_or_lack_of_memory_loses_nothing(tmp_path, capfd, monkeypatch):
    run, replace, calls = tmp_path / "run", os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    command = (*SHORT, "training.checkpoint_every_steps=1", f"run_dir={run}")
    assert run_cli("train", *command) == 2
    assert "No space left on device" in last_line(capfd)
    monkeypatch.undo()

    def starved(*_):
        raise MemoryError

    monkeypatch.setattr("vje_pyro.training.checkpointing.save_checkpoint", starved)
    assert run_cli("train", f"resume={run}") == 2
    assert "not have enough memory" in last_line(capfd)
    monkeypatch.undo()
    assert run_cli("train", f"resume={run}") == 0
    assert run_cli("train", *SHORT, f"run_dir={tmp_path / 'whole'}") == 0
    found, expected = (load_file(RunDir(p).last) for p in (run, tmp_path / "whole"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_too_few_files_are_one_line(tmp_path, capfd, run_dir):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    if not used:
        pytest.skip("counts descriptors in /proc")
    lowest = os.dup(0)  # the next free descriptor: none at or above the limit can be opened
    os.close(lowest)
    before = (run_dir / "run.json").read_bytes()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        codes = [run_cli("report", run_dir, "--out", tmp_path / "report.html"),
                 run_cli("train", *SHORT, f"run_dir={tmp_path / 'run'}")]  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    said = capfd.readouterr().err
    assert codes == [2, 2]
    assert "Traceback" not in said
    assert said.count("Too many open files") == 2
    assert not (tmp_path / "report.html").exists()
    assert (run_dir / "run.json").read_bytes() == before


def test_a_refused_resume_leaves_no_trace(tmp_path, capfd):
    run = tmp_path / "run"
    assert run_cli("train", *SHORT, f"run_dir={run}") == 0
    kept = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.rglob("*") if p.is_file()}
    holder = os.fork()  # a lock of this process would not keep itself out
    if holder == 0:
        with RunDir(run).claim(resume=True):
            (tmp_path / "held").touch()
            while not (tmp_path / "over").exists():
                pass
        os._exit(0)
    while not (tmp_path / "held").exists():
        pass
    try:
        assert run_cli("train", f"resume={run}") == 2
    finally:
        (tmp_path / "over").touch()
        os.waitpid(holder, 0)
    assert f"{run} is in use by a training" in last_line(capfd)
    assert kept == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in kept}
    assert not list(atomic.leftovers(run))
