"""The GPU suite: what is worth knowing on a GPU, in steps of less than ten minutes.

    python benchmarks/gpu_suite.py --list
    python benchmarks/gpu_suite.py --next --minutes 9.5 --data-root data
    python benchmarks/gpu_suite.py --step cifar10-vje-100 --data-root data
    python benchmarks/gpu_suite.py --collect results.tar.gz

Each step writes ``docs/results/gpu/<step>.json`` and is then done. ``--next`` goes through those
that are not, as long as there is time; a step that the time cuts off goes on at the next call from
its checkpoint or its finished parts. ``--tiny`` takes the same way in seconds, on a CPU. The steps
are described in docs/gpu.md.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu.archive import collect, restore
from gpu.context import Context
from gpu.report import report_path, write_report
from gpu.run_with_timeout import GRACE, run_with_timeout
from gpu.steps import STEPS, Step
from study import ROOT

from vje_pyro.errors import VJEError
from vje_pyro.training.interrupt import Interrupted

SHOWN = 15
"""Lines of a step's log that are shown when it fails or is cut off."""


def list_steps(context: Context) -> None:
    """A line per step: whether it is done, its estimated minutes, its purpose."""
    for step in STEPS.values():
        state = "done" if report_path(context, step.name).exists() else "-"
        print(f"{step.name:22} {state:5} {step.minutes:4g} min  {step.purpose}")


def run_here(context: Context, step: Step) -> int:
    """Do a step in this process and write its result file.

    Returns:
        Exit code.
    """
    start = time.perf_counter()
    try:
        outcome = step.run(context)
    except Interrupted as stop:
        print(stop)
        return stop.exit_code
    except VJEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_report(context, step.name, outcome, time.perf_counter() - start)
    return 0


def run_steps(context: Context, steps: Sequence[Step], minutes: float) -> int:
    """Do steps one after the other, each in a process of its own, as long as there is time.

    Args:
        context: Where.
        steps: Those to do.
        minutes: Time that there is. The first step is begun in any case; a later one if its
            estimate fits, or if it can go on where it was cut off.

    Returns:
        Exit code: 1 if a step failed; the others are done all the same.
    """
    end, failed = time.monotonic() + 60 * minutes, 0
    for number, step in enumerate(steps):
        left = end - time.monotonic()
        if number and left < (2 * GRACE if step.keeps else 60 * step.minutes):
            break
        print(f"{step.name}: {left / 60:.1f} min left", flush=True)
        log = context.runs / "logs" / f"{step.name}.log"
        code = run_with_timeout(_command(context, step), left, log)
        if code != 0:
            print("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-SHOWN:]))
        if code is None:
            print(f"{step.name}: no time left; start it again to go on")
            break
        print(f"{step.name}: {'failed' if code else 'done'}", flush=True)
        failed += code != 0
    return int(failed > 0)


def _command(context: Context, step: Step) -> list[str]:
    return [
        sys.executable, __file__, "--here", step.name, "--root", str(context.root),
        "--data-root", str(context.data_root), "--workers", str(context.workers),
        *["--tiny"] * context.tiny,
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it asks.

    Returns:
        Exit code: 1 if a step failed.
    """
    options = _parser().parse_args(arguments)
    root = options.root or (ROOT / "runs" / "gpu-tiny" if options.tiny else ROOT)
    data = root / "data" if options.tiny else options.data_root
    context = Context(root.resolve(), data.resolve(), options.tiny, options.workers)
    if options.here:
        return run_here(context, STEPS[options.here])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.restore:
        print(f"{restore(context, options.restore)} files from {options.restore}")
    code = 0
    if options.step:
        code = run_steps(context, [STEPS[options.step]], options.minutes)
    elif options.next:
        left = [step for step in STEPS.values() if not report_path(context, step.name).exists()]
        code = run_steps(context, left, options.minutes)
    if options.list:
        list_steps(context)
    if options.collect:
        print(f"{collect(context, options.collect)} files in {options.collect}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--next", action="store_true", help="do the steps that are not done")
    parser.add_argument("--step", choices=list(STEPS), help="do one step, or what is missing of it")
    parser.add_argument("--list", action="store_true", help="show the steps")
    parser.add_argument("--minutes", type=float, default=9.5, help="time there is (default 9.5)")
    parser.add_argument("--tiny", action="store_true", help="a version that takes seconds")
    parser.add_argument("--workers", type=int, default=12, help="small trainings at a time")
    data = os.environ.get("VJE_DATA", "data")
    parser.add_argument("--data-root", type=Path, default=data, help="default VJE_DATA or data")
    parser.add_argument("--root", type=Path, help="holds runs/ and docs/results/")
    parser.add_argument("--collect", type=Path, metavar="ARCHIVE", help="pack results, at the end")
    parser.add_argument("--restore", type=Path, metavar="ARCHIVE", help="unpack results, first")
    parser.add_argument("--here", choices=list(STEPS), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VJEError as error:
        sys.exit(f"error: {error}")
