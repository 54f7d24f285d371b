"""Studies, their results and their tables.

    python -m studies run NAME [--only VARIANT …] [--seeds 0 1] [--workers N] [--minutes M]
    python -m studies next --device cuda --minutes 9.5   # what gpu.yaml lists (docs/gpu.md)
    python -m studies list [NAME …]                      # what is missing
    python -m studies add NAME VARIANT FILE …            # results of vje evaluate, ood, diagnose …
    python -m studies tables [--check]                   # the tables of README and docs
    python -m studies page NAME TITLE OUT                # the page of vje compare, from results

Results are lines of docs/results/NAME.jsonl, those of a GPU of docs/results/cuda/NAME.jsonl. What
is there is not done again; a training that was cut off goes on from its checkpoint.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from studies import ROOT, runner
from studies.store import Record, read_result
from studies.study import FOLDER, Study
from vje_pyro.errors import VJEError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it asks.

    Returns:
        Exit code: 1 if a job failed, a table was stale, or the command could not be carried out.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except VJEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    study, seconds = Study.read(options.name), 60 * options.minutes
    _, failed = runner.run(
        _place(options), study, options.only, options.seeds, options.workers, seconds
    )
    return int(failed > 0)


def _job(options: argparse.Namespace) -> int:
    study = Study.read(options.name)
    runner.do(_place(options), study, options.variant, options.seed, options.rate)
    return 0


def _list(options: argparse.Namespace) -> int:
    for name in options.names or sorted(p.parent.name for p in FOLDER.glob("*/variants.yaml")):
        for job in runner.missing(_place(options), Study.read(name)):
            rate = "" if job.rate is None else f", rate {job.rate:g}"
            tasks = ", ".join(" ".join(filter(None, task)) for task in job.tasks)
            print(f"{name} {job.variant}, seed {job.seed}{rate}: {tasks}")
    return 0


def _add(options: argparse.Namespace) -> int:
    records = [Record(options.variant, read_result(path)) for path in options.files]
    for record in records:
        if options.note:
            record.result.details["name"] = options.note
    _place(options).store.add(options.name, records)
    print(f"{len(records)} added to {_place(options).store.path(options.name)}")
    return 0


def _tables(options: argparse.Namespace) -> int:
    from studies.plots import draw
    from studies.tables import rewrite

    stale = rewrite(options.root, check=options.check)
    if not options.check:
        draw(options.root / "docs" / "results")
    print(f"{'stale' if options.check else 'rewritten'}: {stale}")
    return int(options.check and bool(stale))


def _page(options: argparse.Namespace) -> int:
    from studies import page

    print(page.write(_place(options).store, options.name, options.title, options.out))
    return 0


def _next(options: argparse.Namespace) -> int:
    from studies.steps import run_steps

    return int(run_steps(_place(options), 60 * options.minutes, options.only, options.tiny) > 0)


def _place(options: argparse.Namespace) -> runner.Place:
    return runner.Place(
        options.root.resolve(), options.data_root.resolve(), options.device, tuple(options.set)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m studies", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    common = argparse.ArgumentParser(add_help=False)
    data = Path(os.environ.get("VJE_DATA", "data"))
    common.add_argument("--data-root", type=Path, default=data, help="default VJE_DATA or data")
    common.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    common.add_argument("--root", type=Path, default=ROOT, help="holds runs/ and docs/results/")
    common.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="of every training: where it computes, or a tiny size")  # fmt: skip
    timed = argparse.ArgumentParser(add_help=False)
    timed.add_argument("--minutes", type=float, default=float("inf"), help="time that there is")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common, timed], help="do what is missing of a study")
    run.add_argument("name")
    run.add_argument("--only", nargs="+", default=[], metavar="VARIANT")
    run.add_argument("--seeds", nargs="+", type=int)
    run.add_argument("--workers", type=int, default=1, help="trainings at a time (default 1)")
    run.set_defaults(command=_run)

    job = commands.add_parser("job", parents=[common], help="one training of a study")
    job.add_argument("name")
    job.add_argument("variant")
    job.add_argument("seed", type=int)
    job.add_argument("--rate", type=float)
    job.set_defaults(command=_job)

    steps = commands.add_parser("next", parents=[common, timed], help="go on with the GPU's list")
    steps.add_argument("--only", nargs="+", default=[], metavar="STEP")
    steps.add_argument("--tiny", action="store_true", help="a rehearsal in minutes, on a CPU")
    steps.set_defaults(command=_next)

    listed = commands.add_parser("list", parents=[common], help="what is missing")
    listed.add_argument("names", nargs="*")
    listed.set_defaults(command=_list)

    page = commands.add_parser("page", parents=[common], help="the page of a study")
    page.add_argument("name")
    page.add_argument("title")
    page.add_argument("out", type=Path)
    page.set_defaults(command=_page)

    add = commands.add_parser("add", parents=[common], help="add result files to a study")
    add.add_argument("name")
    add.add_argument("variant")
    add.add_argument("files", type=Path, nargs="+")
    add.add_argument("--note", help="tells several results of one protocol and seed apart")
    add.set_defaults(command=_add)

    tables = commands.add_parser("tables", parents=[common], help="rewrite the tables of the pages")
    tables.add_argument("--check", action="store_true", help="only say whether they are up to date")
    tables.set_defaults(command=_tables)
    return parser


if __name__ == "__main__":
    # So that what was started goes down with this process (studies/processes.py).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
