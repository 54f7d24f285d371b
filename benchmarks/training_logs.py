"""What the logs of a run say at its end, as a result file."""

import csv
from pathlib import Path

import numpy as np
import torch

from vje_pyro.evaluation import Figure, Result

TRAINING_PROTOCOL = "training-v1"
LAST = {"rankme": "rankme", "peak_memory": "peak_memory_mib", "active_units": "active_units"}
"""Figure that the last row of a column of the epoch log is."""


def training_result(run_dir: Path, like: Result) -> Result:
    """Cost and state of a run at its end, from its logs.

    Its figures are ``step_ms``, ``minutes``, ``rankme``, ``peak_memory_mib`` and, of a
    probabilistic method, ``active_units`` (share of the latent features) and ``kl`` (nats per
    datum, averaged over the last epoch); what is not in the logs is left out.

    Args:
        run_dir: Finished run.
        like: A result of the run, for all else.
    """
    steps, epochs = (read_columns(run_dir / "logs" / f"{log}.csv") for log in ("steps", "epochs"))
    milliseconds = 1000 * like.config["loader"]["batch_size"] / steps["images_per_second"]
    low, middle, high = np.quantile(milliseconds, [0.25, 0.5, 0.75])
    figures = {
        "step_ms": Figure(middle, low, high, len(milliseconds), "quartiles over log intervals"),
        "minutes": one_run(epochs["time"][-1] / 60),
    }
    for column, name in LAST.items():
        if column in epochs and np.isfinite(epochs[column][-1]):
            figures[name] = one_run(epochs[column][-1])
    if "kl" in steps:
        last = steps["epoch"] == steps["epoch"][-1]
        figures["kl"] = one_run(steps["kl"][last].mean())
    result = Result(
        TRAINING_PROTOCOL, like.dataset, like.method, like.features, figures, like.seed,
        config=like.config, device=like.device,
        details={"threads": torch.get_num_threads()},
    )  # fmt: skip
    return result


def one_run(value: float) -> Figure:
    """A figure that a run gives once."""
    return Figure(float(value), float(value), float(value), 1, "one run")


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a log as floats; what is no number is NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([_number(row[name]) for row in rows]) for name in rows[0]}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
