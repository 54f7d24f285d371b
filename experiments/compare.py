"""Compare methods on one data set, seeds and budget: ``vje compare OUT``.

Methods are trained here (``--method``), each seed in a process of its own and where it was left
off, or their finished runs are read (``--run``). What a run has not been measured on is measured.
Writes ``OUT/comparison.md``, ``.tex``, ``.html`` and ``.json``. What cannot be measured is left
out by name, and the exit code is then 3.

    vje compare OUT --experiment digits --seeds 0 1 2 --method vje --method simsiam
    vje compare OUT --method vje --method "vje, sigreg" method=vje aggregate=sigreg
    vje compare OUT --run vje RUN RUN RUN --run simsiam RUN RUN RUN
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import DEFAULT, PROTOCOLS
from vje_pyro.experiments.arguments import add_trust_argument
from vje_pyro.experiments.evaluate import evaluate_run
from vje_pyro.experiments.partial import Parts
from vje_pyro.provenance import git_commit, versions
from vje_pyro.report.comparison import (
    Contender,
    as_json,
    check_equal_budget,
    check_labels,
    read_contender,
)
from vje_pyro.report.comparison_page import write_page
from vje_pyro.report.comparison_tables import latex, markdown, note, tables
from vje_pyro.run import load
from vje_pyro.training.run_dir import RunDir

SCHEMA, SCHEMA_VERSION = "vje-pyro-comparison", 1


def train_seed(
    run_dir: Path, seed: int, overrides: Sequence[str], trust: Sequence[str] = ()
) -> None:
    """Train one run in a process of its own, go on with a broken one, leave a finished one.

    Raises:
        VJEError: If the training fails; its own message is on the screen.
    """
    started = RunDir(run_dir).last.is_file()
    arguments = [f"resume={run_dir}"] if started else [f"run_dir={run_dir}", f"seed={seed}"]
    if not started:
        RunDir(run_dir).check(resume=False)
        arguments += overrides
    if trust:
        arguments += ["--trust", *trust]
    # -P: nothing is imported from the folder that the command is given in.
    command = [sys.executable, "-P", "-m", "vje_pyro", "train", *arguments]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise VJEError(
            f"training in {run_dir} ended with exit code {done.returncode}; mend what it says, "
            "then give the same command again: finished runs are kept"
        )


def unmeasured(run_dir: Path, features: str, protocols: Sequence[str]) -> list[str]:
    """The protocols that a run has no result of yet."""
    results = run_dir / "results"
    return [name for name in protocols if not (results / f"{name}-{features}.json").exists()]


def measure(
    run_dir: Path,
    features: str,
    protocols: Sequence[str],
    data_root: str | None,
    trust: Sequence[str] = (),
) -> None:
    """Run the protocols that a run has no result of yet."""
    if missing := unmeasured(run_dir, features, protocols):
        run = load(run_dir, trust=trust, data_root=data_root)
        evaluate_run(run, features, missing)


def compare(contenders: Sequence[Contender], title: str, out: Path, force: bool = False) -> str:
    """Write the comparison in all its forms.

    Args:
        contenders: The methods.
        title: Heading of the page.
        out: Folder, made if need be.
        force: Compare methods that were not trained alike, too, and mark them.

    Returns:
        The tables in Markdown.

    Raises:
        VJEError: If a label repeats, or if images, views, encoder or budget are not the same.
    """
    check_labels(contenders)
    if not force:
        check_equal_budget(contenders)
    make_folder(out)
    shown, below = tables(contenders), note(contenders)
    result = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "title": title,
        **as_json(contenders),
        "commit": git_commit(),
        "versions": versions(),
    }
    write_atomic(out / "comparison.json", json.dumps(result, indent=2) + "\n")
    write_atomic(out / "comparison.md", f"# {title}\n\n{markdown(shown, below)}")
    write_atomic(out / "comparison.tex", latex(shown, below))
    write_page(contenders, title, out / "comparison.html")
    return markdown(shown, below)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train what is to be trained, and compare."""
    parser = argparse.ArgumentParser(
        prog="vje compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the comparison")
    parser.add_argument(
        "--method", nargs="+", action="append", default=[], metavar=("LABEL", "OVERRIDE"),
        help="train a method; the label alone means method=LABEL",
    )  # fmt: skip
    parser.add_argument(
        "--run", nargs="+", action="append", default=[], metavar=("LABEL", "RUN"),
        help="finished runs of a method, one a seed",
    )  # fmt: skip
    parser.add_argument("--experiment", default="digits", help="what methods are trained on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="OVERRIDE", help="overrides of every training"
    )
    parser.add_argument("--features", default="encoder", choices=["encoder", "batch-norm"])
    parser.add_argument("--protocols", nargs="+", default=list(DEFAULT), choices=list(PROTOCOLS))
    parser.add_argument("--data-root", help="where the data set of the runs is now")
    add_trust_argument(parser)
    parser.add_argument(
        "--force", action="store_true", help="also compare what was not trained alike, marked †"
    )
    parser.add_argument("--title", default="Comparison of methods")
    options = parser.parse_args(arguments)
    if not options.method and not options.run:
        parser.error("nothing to compare: give --method or --run")
    runs = {label: [Path(run) for run in paths] for label, *paths in options.run}
    runs |= _train_all(options)
    if len(runs) < len(options.method) + len(options.run):
        raise VJEError("a label is given twice: give every method a label of its own")
    parts = Parts()
    for label, paths in runs.items():
        if not paths:
            raise VJEError(f"--run {label} names no run directory")
        for path in paths:
            with parts.part(str(path)):
                measure(path, options.features, options.protocols, options.data_root, options.trust)
    if len(parts.left_out) == sum(map(len, runs.values())):
        parts.finish(None)  # not one run could be measured: there is nothing to compare
    contenders = [read_contender(label, paths, options.features) for label, paths in runs.items()]
    print(compare(contenders, options.title, options.out, options.force))
    print(f"comparison in {options.out}/comparison.{{md,tex,html,json}}")
    parts.finish(runs)


def _train_all(options: argparse.Namespace) -> dict[str, list[Path]]:
    """Run directories of every trained method; the first seed of all before the second."""
    runs: dict[str, list[Path]] = {label: [] for label, *_ in options.method}
    root = [] if options.data_root is None else [f"data.root={options.data_root}"]
    for seed in options.seeds:
        for label, *overrides in options.method:
            run_dir = options.out / "runs" / _folder(label) / f"seed{seed}"
            chosen = overrides or [f"method={label}"]
            common = [f"experiment={options.experiment}", *root, *options.set]
            # A run is measured once it is finished.
            if unmeasured(run_dir, options.features, options.protocols):
                train_seed(run_dir, seed, [*common, *chosen], options.trust)
            runs[label].append(run_dir)
    return runs


def _folder(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label).strip("-")
