"""The run directory: every path in it, and the rule that it is never silently reused.

A directory holds a run if and only if it holds its last checkpoint, which is written first, whole,
and has the whole state of the run in it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vje_pyro.atomic import FLAGS, leftovers
from vje_pyro.errors import CheckpointError

DIAGNOSIS, DIAGNOSIS_ARRAYS, DIAGNOSIS_DRAWS = "diagnostics.json", "arrays.npz", "inference.nc"
"""Files of a diagnosis: what was found, what the report plots, the draws for ArviZ."""


class RunDir:
    """Paths inside a run directory, which need not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.safetensors"
        self.best = self.checkpoints / "best.safetensors"
        self.joint_posterior = self.checkpoints / "joint_posterior.safetensors"
        self.logs = self.path / "logs"
        self.steps = self.logs / "steps.csv"
        self.epochs = self.logs / "epochs.csv"
        self.log = self.path / "train.log"
        self.results = self.path / "results"
        self.diagnostics = self.path / "diagnostics"
        self.diagnosis = self.diagnostics / DIAGNOSIS
        self.diagnosis_arrays = self.diagnostics / DIAGNOSIS_ARRAYS
        self.report = self.path / "report.html"
        self._claimed = False

    def epoch_checkpoint(self, epoch: int) -> Path:
        """Checkpoint kept after ``epoch`` epochs."""
        return self.checkpoints / f"epoch_{epoch:04d}.safetensors"

    def checkpoint(self, name: str | Path) -> Path:
        """File of a checkpoint: a name inside the run (``"last"``, ``"best"``), or a path.

        Raises:
            CheckpointError: If it does not exist; the message lists those that do.
        """
        named = self.checkpoints / f"{name}.safetensors"
        path = named if named.is_file() else Path(name)
        if not path.is_file():
            names = sorted(p.stem for p in self.checkpoints.glob("*.safetensors"))
            raise CheckpointError(f"no checkpoint {str(name)!r} in {self.path}; it has {names}.")
        return path

    def result(self, name: str) -> Path:
        """File of a result, such as ``"knn-v1-encoder"``."""
        return self.results / f"{name}.json"

    def require(self) -> None:
        """Raise :class:`CheckpointError` unless the directory holds a run."""
        if not (self.run_json.exists() or self.last.is_file()):
            raise CheckpointError(
                f"no run at {self.path}: {self.run_json} does not exist. Give the directory that "
                "vje train printed. If the run was stopped before its first checkpoint, start it "
                f"again with run_dir={self.path}."
            )

    @contextmanager
    def claim(self, resume: bool) -> Iterator[None]:
        """Take the directory for this process until the block ends.

        Args:
            resume: Continue in a directory that holds a run; otherwise it must not hold one.

        Raises:
            CheckpointError: The directory holds a run and ``resume`` is off, holds none and it is
                on, is in use by a running process, or cannot be written.
        """
        if self._claimed:
            yield
            return
        self.check(resume)
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | FLAGS, 0o666)
        except OSError as error:
            raise CheckpointError(
                f"Cannot write in the run directory {self.path}: {error.strerror or error}. "
                "Choose a directory that is writable."
            ) from error
        try:
            self._lock(lock)
            self.check(resume)  # another process may have had the directory meanwhile
            for directory in (self.path, self.checkpoints, self.logs):
                for partial in leftovers(directory):
                    with suppress(OSError):
                        partial.unlink()
            self._claimed = True
            yield
        finally:
            self._claimed = False
            os.close(lock)

    def check(self, resume: bool) -> None:
        """Raise :class:`CheckpointError` unless the directory is free, or can be resumed."""
        if resume and not self.last.is_file():
            raise CheckpointError(
                f"Nothing to resume: {self.last} does not exist. Check the run directory, or start "
                f"a new run there: vje train run_dir={self.path}"
            )
        if resume:
            return
        if self.last.is_file():
            raise CheckpointError(
                f"{self.path} already holds a run, which is never overwritten. Choose another "
                f"run directory, or continue this run: vje train resume={self.path}"
            )
        if self.run_json.exists() or any(self.checkpoints.glob("*.safetensors")):
            raise CheckpointError(
                f"{self.path} already holds a run, but not its last checkpoint ({self.last}), "
                "without which it cannot continue. Choose another run directory."
            )

    def _lock(self, descriptor: int) -> None:
        """Hold a lock that the kernel drops when this process ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # not POSIX: two processes in one directory go unnoticed there
            return
        try:
            # A record lock, because worker processes do not inherit it and so cannot outlive it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise CheckpointError(
                f"{self.path} is in use by a training that is still running. Wait for it or stop "
                "it, or choose another run directory."
            ) from error
        except OSError:  # a file system without locks
            return
