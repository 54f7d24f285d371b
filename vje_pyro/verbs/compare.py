"""Compare methods on one data set, seeds and budget."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.configuration.overrides import Overrides, as_words
from vje_pyro.errors import VJEError
from vje_pyro.names import DEFAULT_PROTOCOLS
from vje_pyro.provenance import origin
from vje_pyro.report.comparison import (
    Contender,
    as_json,
    check_equal_budget,
    check_labels,
    read_contender,
)
from vje_pyro.report.comparison_page import write_page
from vje_pyro.report.comparison_tables import note, tables
from vje_pyro.report.tables import latex, markdown
from vje_pyro.run import load
from vje_pyro.training.run_dir import RunDir
from vje_pyro.verbs.evaluate import evaluate
from vje_pyro.verbs.partial import Parts

SCHEMA, SCHEMA_VERSION = "vje-pyro-comparison", 1


def train_seed(
    run_dir: Path, seed: int, overrides: Sequence[str], trust: Sequence[str] = ()
) -> None:
    """Train one run in its own process; continue an interrupted one, skip a finished one.

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
            f"training in {run_dir} ended with exit code {done.returncode}; correct the "
            "error above, then repeat the command: finished runs are kept"
        )


def unmeasured(run_dir: Path, features: str, protocols: Sequence[str]) -> list[str]:
    """The protocols that a run has no result of yet."""
    results = [(name, RunDir(run_dir).result(f"{name}-{features}")) for name in protocols]
    return [name for name, path in results if not path.exists()]


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
        evaluate(run, missing, features=features)


def compare(
    out: str | Path,
    methods: Mapping[str, Overrides] | None = None,
    runs: Mapping[str, Sequence[str | Path]] | None = None,
    *,
    experiment: str = "digits",
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Overrides = (),
    features: str = "encoder",
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    data_root: str | Path | None = None,
    trust: Sequence[str] = (),
    force: bool = False,
    title: str = "Comparison of methods",
) -> str:
    """Train methods, or read their runs, and compare them on one page.

    Methods are trained in ``OUT/runs``, each seed in its own process; an interrupted training
    continues. Missing measurements of a run are made.

    Args:
        out: Folder of ``comparison.md``, ``.tex``, ``.html`` and ``.json``, made if need be.
        methods: Overrides of each method to train, by its label; without any, the label is the
            method.
        runs: Finished runs of a method, one for each seed, by its label.
        experiment: Experiment for the trainings.
        seeds: Seeds of the trainings.
        overrides: Overrides for every training.
        features: Features to measure.
        protocols: Protocols to measure.
        data_root: Folder of the data set.
        trust: See :func:`vje_pyro.building.trusted_packages`.
        force: Also compare runs with other images, views, encoder or budget, and mark them.
        title: Heading of the page.

    Returns:
        The tables in Markdown.

    Raises:
        VJEError: If a training fails, a label repeats or has no run, or if images, views, encoder
            or budget are not the same.
        LeftOut: If figures were left out; the others are written.

    Example:
        >>> tables = compare("out", {"vje": {}, "simsiam": {}}, seeds=[0])  # doctest: +SKIP
    """
    methods, runs = methods or {}, runs or {}
    if not (methods or runs):
        raise VJEError("nothing to compare: give methods or runs.")
    if methods.keys() & runs.keys():
        raise VJEError("a label is given twice: give every method a label of its own.")
    for label, paths in runs.items():
        if not paths:
            raise VJEError(f"--run {label} needs a run directory after the label")
    root = None if data_root is None else str(data_root)
    common = [f"experiment={experiment}", *as_words({} if root is None else {"data.root": root})]
    common += as_words(overrides)
    found = {label: [Path(path) for path in paths] for label, paths in runs.items()}
    found |= {label: [] for label in methods}
    for seed in seeds:  # the first seed of all before the second
        for label, own in methods.items():
            run_dir = Path(out) / "runs" / _folder(label) / f"seed{seed}"
            chosen = as_words(own) or [f"method={label}"]
            # A run is measured once it is finished.
            if unmeasured(run_dir, features, protocols):
                train_seed(run_dir, seed, [*common, *chosen], trust)
            found[label].append(run_dir)
    parts = Parts()
    for path in (path for paths in found.values() for path in paths):
        with parts.part(str(path)):
            measure(path, features, protocols, root, trust)
    if len(parts.left_out) == sum(map(len, found.values())):
        parts.finish(None)  # not one run could be measured: there is nothing to compare
    contenders = [read_contender(label, paths, features) for label, paths in found.items()]
    result = _write(contenders, title, Path(out), force)
    parts.finish(result)
    return result


def _write(contenders: Sequence[Contender], title: str, out: Path, force: bool) -> str:
    """The comparison in all its forms; the tables in Markdown."""
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
        **origin(),
    }
    write_atomic(out / "comparison.json", json.dumps(result, indent=2) + "\n")
    write_atomic(out / "comparison.md", f"# {title}\n\n{markdown(shown, below)}")
    write_atomic(out / "comparison.tex", latex(shown, below))
    write_page(contenders, title, out / "comparison.html")
    return markdown(shown, below)


def _folder(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label).strip("-")
