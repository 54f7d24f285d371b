"""The processes of a run that no launcher has started: torch's elastic launcher starts them.

It ends all when one dies. They are started again from the last checkpoint, and what ended them is
said in one line.
"""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import active_children, parent_process
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist

from vje_pyro.errors import VJEError
from vje_pyro.training.checkpoint import load_meta
from vje_pyro.training.interrupt import Interrupted, InterruptRequest
from vje_pyro.training.run_dir import RunDir

logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
GRACE_S = 2.0
"""How long a process that fails because of another one lets the launcher find that one first."""

T = TypeVar("T")
_NOISY = ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing")


class LostProcessError(VJEError):
    """A process of the run ended before its time."""


def run_together(
    number: int,
    run_dir: str | Path,
    function: Callable[..., T],
    *arguments: Any,
    resume: bool = False,
    max_restarts: int = MAX_RESTARTS,
) -> T:
    """``function(*arguments, resume)`` in ``number`` processes: the result of the first.

    SIGINT and SIGTERM are passed on to them. They are started again, with ``resume``, when one was
    killed or does not answer and there is a checkpoint.

    Args:
        number: Processes; with one the function is only called.
        run_dir: Directory of the run.
        function: Importable by name.
        arguments: Can be pickled.
        resume: Continue from the last checkpoint.
        max_restarts: Restarts before giving up.

    Raises:
        LostProcessError: A process was killed or cannot be reached, and was so after the restarts.
        VJEError: The function raised it, or the processes have no place to meet at.
        Interrupted: SIGINT or SIGTERM came.
    """
    if number == 1:
        try:
            return function(*arguments, resume)
        except Exception as error:
            if not is_lost_connection(error):
                raise
            raise LostProcessError(f"{_connection_lost(error)} {way_on(run_dir)}") from error
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    restarts = 0
    while True:
        with _Forwarding() as request:
            try:
                return _launch(number, function, (*arguments, resume))
            except ChildFailedError as error:
                failure = error.get_first_failure()[1]
                signum = request.signum or failure.exitcode - 128
                if request.signum or signum in request.signals:
                    _raise_interrupted(signum, run_dir)
                words = _account(failure, number, run_dir)
        if restarts == max_restarts or not RunDir(run_dir).last.is_file():
            raise LostProcessError(f"{words} {way_on(run_dir)}")
        restarts, resume = restarts + 1, True
        logger.warning(
            "%s Starting again from the last checkpoint (%d of %d).", words, restarts, max_restarts
        )


def _launch(number: int, function: Callable[..., T], arguments: Any) -> T:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    level = logging.getLogger().getEffectiveLevel()
    with tempfile.TemporaryDirectory(prefix="vje_") as folder, _silence():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id="vje",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",  # any free port
            local_addr="127.0.0.1",
            max_restarts=0,  # only some failures are worth one
            logs_specs=DefaultLogsSpecs(folder),
            signals_to_handle="SIGQUIT",  # others are passed on here
        )
        try:
            results: dict[int, T] = elastic_launch(config, _work)(level, function, arguments)
        except (dist.DistError, OSError) as error:
            raise VJEError(
                f"the processes of the run cannot meet on this machine: {error}"
            ) from error
    return results[0]


def _work(level: int, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """What each process does."""
    first = os.environ["RANK"] == "0"
    if first:
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    try:
        result = function(*arguments)
        dist.destroy_process_group()
        return result
    except VJEError as error:
        if not first:  # which speaks for all if all fail alike
            time.sleep(GRACE_S)
        raise VJEError(str(error)) from error
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the end of a parent sends repeatedly
        parent = parent_process()
        assert parent is not None
        parent.join(1.0)  # its end may be the reason
        if first and not parent.is_alive():
            print(f"The process that started the run has ended. {interrupt}", file=sys.stderr)
        sys.exit(getattr(interrupt, "exit_code", 130))
    except Exception as error:
        if not is_lost_connection(error):
            raise
        time.sleep(GRACE_S)
        raise LostProcessError(_connection_lost(error)) from error


class _Forwarding(InterruptRequest):
    """Passes signals on to the processes that were started."""

    def _note(self, signum: int, frame: Any) -> None:
        children = active_children()
        if not children:
            raise KeyboardInterrupt
        for child in children:
            assert child.pid is not None
            os.kill(child.pid, signum)
        super()._note(signum, frame)


def _raise_interrupted(signum: int, run_dir: str | Path) -> NoReturn:
    last = RunDir(run_dir).last
    if not last.is_file():
        raise KeyboardInterrupt
    raise Interrupted(signum, load_meta(last).step, last)


def _account(failure: Any, number: int, run_dir: str | Path) -> str:
    """What happened to a process, in words, if a restart may help; else a VJEError."""
    name = f"Process {failure.local_rank + 1} of {number} on this machine"
    if failure.exitcode < 0:
        return f"{name} was ended by {failure.signal_name()}; all others end with it."
    if isinstance(failure.message, str):
        return f"{name} ended with exit code {failure.exitcode}."
    kind, _, words = failure.message["message"].partition(": ")
    if kind == LostProcessError.__name__:
        return words
    if kind == VJEError.__name__:
        raise VJEError(
            words if failure.local_rank == 0 else f"{name} failed: {words} {way_on(run_dir)}"
        )
    print(failure.message["extraInfo"]["py_callstack"], file=sys.stderr)
    raise LostProcessError(f"{name} failed; its message is above. {way_on(run_dir)}")


def way_on(run_dir: str | Path) -> str:
    """How to continue a run that ended too early."""
    if RunDir(run_dir).last.is_file():
        return f"Continue from the last checkpoint with: vje train resume={run_dir}"
    return "There is no checkpoint yet: start the run again."


def is_lost_connection(error: Exception) -> bool:
    """Whether an error is of the connection to another process."""
    # Gloo raises plain RuntimeErrors; the path of its source is in each.
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def is_restart() -> bool:
    """Whether torchrun has started this process again, after one of the run died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def meet_again(backend: str, timeout: timedelta) -> None:
    """Join the processes that torchrun has started with this one, after one of the run died.

    torchrun keeps one store over all its attempts, where an ended process may have left its
    address; the prefix keeps the attempts apart.
    """
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    store = dist.PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def _connection_lost(error: Exception) -> str:
    line = str(error).strip().splitlines()[0]
    return (
        f"The connection to another process of the run was lost, or it did not answer in time "
        f"(device.timeout_s): {line}"
    )


@contextmanager
def _silence() -> Iterator[None]:
    """What torch's launcher logs is said in other words here."""
    names = [n for n in logging.root.manager.loggerDict if n.startswith(_NOISY)]
    loggers = [logging.getLogger(name) for name in names]
    before = [noisy.disabled for noisy in loggers]
    for noisy in loggers:
        noisy.disabled = True
    try:
        yield
    finally:
        for noisy, disabled in zip(loggers, before, strict=True):
            noisy.disabled = disabled
