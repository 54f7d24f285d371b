"""The learning curve of runs, from their logs, as a picture beside their results.

    python benchmarks/learning_curve.py RUN [RUN …] --out docs/results/STUDY/curve.svg

Copies every run's ``logs/epochs.csv`` beside the picture, as ``epochs-<method>-seed<seed>.csv``.
"""

import argparse
import csv
import shutil
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from vje_pyro.run import read_run_json

PANELS = (
    ("knn", "kNN accuracy of the monitor"),
    ("rankme", "RankMe"),
)


def read(path: Path) -> dict[str, list[float]]:
    """Columns of an epoch log."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in ("epoch", "time", *dict(PANELS))}


def main() -> None:
    """Parse the command line, copy the logs and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "curve"
    figure, axes = plt.subplots(1, len(PANELS), figsize=(8, 2.8), layout="constrained")
    for run in options.runs:
        info, log = read_run_json(run), run / "logs" / "epochs.csv"
        method, seed = info["config"]["method"]["_target_"].rsplit(".", 1)[-1], info["seed"]
        shutil.copy(log, options.out.parent / f"epochs-{method}-seed{seed}.csv")
        columns = read(log)
        for axis, (name, label) in zip(axes, PANELS, strict=True):
            axis.plot(columns["epoch"], columns[name], "o-", ms=3, label=f"{method}, seed {seed}")
            axis.set(xlabel="epoch", ylabel=label)
    axes[0].legend()
    figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
