"""What the logs of a run say at its end, as a result file."""

import csv
from pathlib import Path

import numpy as np
import torch

from vje_pyro.evaluation import Figure, Result

TRAINING_PROTOCOL = "training-v1"


def training_result(run_dir: Path, like: Result) -> Result:
    """Cost and state of a run, from its logs.

    Its figures are ``step_ms``, ``peak_memory_mib``, ``minutes``, ``rankme`` and, of a
    probabilistic method, ``active_units`` (share of the latent features) and ``kl`` (nats per
    datum, averaged over the last epoch).

    Args:
        run_dir: Finished run.
        like: A result of the run, for all else.
    """
    steps, epochs = (read_columns(run_dir / "logs" / f"{log}.csv") for log in ("steps", "epochs"))
    milliseconds = 1000 * like.config["loader"]["batch_size"] / steps["images_per_second"]
    low, middle, high = np.quantile(milliseconds, [0.25, 0.5, 0.75])
    figures = {
        "rankme": one_run(epochs["rankme"][-1]),
        "step_ms": Figure(middle, low, high, len(milliseconds), "quartiles over log intervals"),
        "peak_memory_mib": one_run(epochs["peak_memory"][-1]),
        "minutes": one_run(epochs["time"][-1] / 60),
    }
    if np.isfinite(epochs.get("active_units", [np.nan])[-1]):
        figures["active_units"] = one_run(epochs["active_units"][-1])
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
