"""The processes of one machine that train together: started, watched, and ended as one.

Where torchrun or SLURM starts the processes, these do the watching. What is left to do then is to
say it clearly when a connection is lost.
"""

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from vje_pyro.errors import VJEError
from vje_pyro.training.run_dir import RunDir

GRACE_S = 10.0
"""How long a process may take to notice by itself that another one is gone."""

T = TypeVar("T")


class LostProcessError(VJEError):
    """Another process of the run ended before its time."""


def processes_to_start(fabric: Fabric) -> int:
    """Processes of this machine, this one included; one where somebody else starts them."""
    strategy = fabric.strategy
    if not isinstance(strategy, DDPStrategy) or strategy.cluster_environment is None:
        return 1
    return (
        1 if strategy.cluster_environment.creates_processes_externally else strategy.num_processes
    )


def run_together(
    number: int, num_nodes: int, run_dir: str | Path, function: Callable[..., T], *arguments: Any
) -> T:
    """``function(*arguments)`` in this process and in ``number - 1`` others of this machine.

    The others are started with the variables that Fabric takes its ranks from. When one of them
    dies, this one ends and ends the rest; when this one dies, they end.

    Args:
        number: Processes on this machine; with 1 the function is only called.
        num_nodes: Machines; with several, each runs this, and MASTER_ADDR, MASTER_PORT and
            NODE_RANK are set there.
        run_dir: Directory of the run, for the way to go on.
        function: Importable by name.
        arguments: Can be pickled.

    Returns:
        What the function returned in this process.

    Raises:
        LostProcessError: Another process failed or was killed, or cannot be reached.
        VJEError: The processes have no place to meet at, such as a port that is in use.
    """
    if number == 1:
        try:
            return function(*arguments)
        except Exception as error:
            if not is_lost_connection(error):
                raise
            raise LostProcessError(_connection_lost(error, run_dir)) from error
    with _environment(_meeting_point(num_nodes)) as variables:
        others = _Others(number, variables, run_dir, function, arguments)
        with others.watched():
            result = function(*arguments)
            others.join()
            dist.destroy_process_group()  # the next training meets anew
            return result


class _Others:
    """The processes that this one has started."""

    def __init__(
        self,
        number: int,
        variables: dict[str, str],
        run_dir: str | Path,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self.number, self.run_dir = number, run_dir
        self.lost: str | None = None
        self._noticed, self._over = threading.Event(), threading.Event()
        context = get_context("spawn")
        self.processes: dict[int, SpawnProcess] = {}
        self.messages: dict[int, connection.Connection] = {}
        for rank in range(1, number):
            self.messages[rank], message = context.Pipe(duplex=False)
            own = variables | {"LOCAL_RANK": str(rank)}
            process = context.Process(
                target=_other, args=(own, message, run_dir, function, arguments)
            )
            process.start()
            message.close()  # so that reading ends when the process does
            self.processes[rank] = process

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In this block the first process that dies ends all."""
        threading.Thread(target=self._watch, name="watch-processes", daemon=True).start()
        try:
            yield
        except Exception as error:
            if isinstance(error, VJEError):
                raise  # of the run, not of a connection
            if self._noticed.wait(GRACE_S if is_lost_connection(error) else 0):
                raise LostProcessError(self.lost) from error
            if is_lost_connection(error):
                raise LostProcessError(_connection_lost(error, self.run_dir)) from error
            raise
        finally:
            self._over.set()
            self._kill()

    def join(self) -> None:
        """Wait for the others to come to their end too."""
        deadline = time.monotonic() + GRACE_S
        for process in self.processes.values():
            process.join(max(0.0, deadline - time.monotonic()))

    def _watch(self) -> None:
        alive: dict[Any, int] = {p.sentinel: rank for rank, p in self.processes.items()}
        while alive:
            for sentinel in connection.wait(list(alive)):
                rank = alive.pop(sentinel)
                self.processes[rank].join()
                if self.processes[rank].exitcode != 0 and not self._over.is_set():
                    self._end(rank)
                    return

    def _end(self, rank: int) -> None:
        self.lost = f"{self._epitaph(rank)} {way_on(self.run_dir)}"
        self._noticed.set()
        if not self._over.wait(GRACE_S):  # this process waits for an answer that never comes
            print(f"error: {self.lost}", file=sys.stderr, flush=True)
            self._kill()
            os._exit(2)

    def _epitaph(self, rank: int) -> str:
        code = self.processes[rank].exitcode or 0
        name = f"Process {rank + 1} of {self.number} on this machine"
        try:
            return f"{name} failed: {self.messages[rank].recv()}"
        except (EOFError, OSError):
            pass
        if code < 0:
            return f"{name} was ended by {signal.Signals(-code).name}; all others end with it."
        return f"{name} failed with exit code {code}; what it said is above."

    def _kill(self) -> None:
        for process in self.processes.values():
            if process.is_alive():
                process.kill()


def _other(
    variables: dict[str, str],
    message: connection.Connection,
    run_dir: str | Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """What a started process does."""
    os.environ.update(variables)
    first = variables["LOCAL_RANK"] == "1"
    threading.Thread(target=_follow, args=(run_dir, first), daemon=True).start()
    code = 1
    try:
        function(*arguments)
        return
    except VJEError as error:
        message.send(str(error))
        code = 2
    except KeyboardInterrupt as interrupt:
        code = getattr(interrupt, "exit_code", 130)
    except Exception as error:
        if is_lost_connection(error):
            time.sleep(2 * GRACE_S)  # whoever started this process knows more, and ends it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without the manners of an exit, which could wait for the lost


def _follow(run_dir: str | Path, speaks: bool) -> None:
    """End with the process that started this one."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    if speaks:
        lost = "The first process of the run has ended; all others end with it."
        print(f"error: {lost} {way_on(run_dir)}", file=sys.stderr, flush=True)
    os._exit(2)


def way_on(run_dir: str | Path) -> str:
    """How to go on with a run that ended before its time."""
    if RunDir(run_dir).last.is_file():
        return f"Go on from the last checkpoint with: vje train resume={run_dir}"
    return "There is no checkpoint yet: start the run again."


def _connection_lost(error: Exception, run_dir: str | Path) -> str:
    line = str(error).strip().splitlines()[0]
    return (
        f"The connection to another process of the run was lost, or it did not answer in time "
        f"(device.timeout_s): {line} {way_on(run_dir)}"
    )


def is_lost_connection(error: Exception) -> bool:
    """Whether an error is of the connection to another process."""
    # Gloo raises plain RuntimeErrors; the path of its source is in each.
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def _meeting_point(num_nodes: int) -> dict[str, str]:
    """Where the processes find each other: given, or a free port of this machine."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if num_nodes > 1 and None in (address, port, os.environ.get("NODE_RANK")):
        raise VJEError(
            f"device.num_nodes={num_nodes}, but nothing says where the machines meet: set "
            "MASTER_ADDR, MASTER_PORT and NODE_RANK on each, or start the run with torchrun or "
            "srun (docs/scaling.md)."
        )
    if int(os.environ.get("NODE_RANK", 0)) == 0:
        port = _free_port(port)
    assert port is not None
    return {"MASTER_ADDR": address or "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0"}


def _free_port(wanted: str | None) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(wanted or 0)))
        except (OSError, ValueError, OverflowError) as error:
            raise VJEError(
                f"MASTER_PORT={wanted}, where the processes of the run are to meet, cannot be used "
                f"({error}): set it to a free port, or on one machine leave it unset."
            ) from error
        return str(probe.getsockname()[1])


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """These environment variables in the block, and what was there before after it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield variables
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
