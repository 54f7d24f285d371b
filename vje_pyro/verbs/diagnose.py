"""Can the inference of a run be believed? Checks of :mod:`vje_pyro.diagnostics` on a run."""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vje_pyro import names
from vje_pyro.atomic import write_atomic
from vje_pyro.diagnostics import (
    Data,
    Pairs,
    Verdict,
    load_check,
    require_posterior,
    save_netcdf,
    to_arviz,
)
from vje_pyro.diagnostics.check import SCHEMA, SCHEMA_VERSION
from vje_pyro.errors import DataError, VJEError
from vje_pyro.provenance import origin
from vje_pyro.run import Representation
from vje_pyro.training.run_dir import DIAGNOSIS, DIAGNOSIS_ARRAYS, DIAGNOSIS_DRAWS
from vje_pyro.verbs.pairs import split_pairs
from vje_pyro.verbs.partial import Parts, output_folder

logger = logging.getLogger(__name__)

_MAX_NUMBERS = 200_000
"""Arrays larger than this stay out of the file for plots: draws, not results."""


def diagnose(
    run: Representation,
    checks: Iterable[str] = tuple(names.CHECKS),
    *,
    num_images: int = 200,
    num_train: int = 400,
    seed: int = 0,
    fit_on: str = "train",
    folder: str | Path | None = None,
) -> dict[str, Any]:
    """Run checks and write ``RUN/diagnostics``.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        checks: Names from :data:`vje_pyro.names.CHECKS`.
        num_images: Held-out images that the inference is checked on.
        num_train: Training images that the temperature and the compared likelihoods are fitted on.
        seed: Of the choice of images, the views and all draws.
        fit_on: Split of those images: ``"train"``, or ``"validation"``, which the encoder has not
            seen (see :meth:`vje_pyro.data.DataSource.split`).
        folder: Where to write; ``RUN/diagnostics`` when None.

    Returns:
        The content of ``diagnostics.json``. Beside it are ``arrays.npz``, what the report plots,
        and ``inference.nc``, the draws for ArviZ.

    Raises:
        VJEError: If the method has no posterior, or a check is unknown.
        DataError: If the data set has no test or train split.
        LeftOut: If checks were left out; the others are written.
        WriteError: If the folder cannot be written.

    Example:
        >>> content = diagnose(run, ["importance"])  # doctest: +SKIP
        >>> content["checks"]["importance"]["verdict"]["flagged"]  # doctest: +SKIP
        False
    """
    require_posterior(run.method)
    chosen = list(checks)
    if unknown := [name for name in chosen if name not in names.CHECKS]:
        raise VJEError(f"unknown checks {unknown}; choose from {list(names.CHECKS)}.")
    if min(num_images, num_train) < 2:
        raise DataError(f"a diagnosis needs two images or more, got {num_images} and {num_train}.")
    out = output_folder(run.directory.diagnostics, folder)
    heldout = split_pairs(run, "test", num_images, seed, seed)
    train = split_pairs(run, fit_on, num_train, seed, seed)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "method": type(run.method).__name__,
        "dataset": run.source.name,
        "images": {"heldout": len(heldout), "train": len(train)},
        "posterior": "of all views" if heldout.joint else "of one view",
        "data": f"pairs of training views: heldout of the test split, train of the {fit_on} split",
        "seed": seed,
        "training_seed": run.info["seed"],
        "checkpoint": str(run.checkpoint),
        "config": run.config,
        **origin(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": {},
    }
    save_netcdf(to_arviz(heldout, seed=seed), out / DIAGNOSIS_DRAWS, overwrite=True)
    arrays: dict[str, np.ndarray] = {}

    def again(pairs: Pairs, view_seed: int, number: int) -> Pairs:
        return split_pairs(run, pairs.split, len(pairs), seed, view_seed, number)

    parts, data = Parts(), Data(heldout, train, run.config, seed, again)
    for name in chosen:
        with parts.part(name):
            start = time.perf_counter()
            result = load_check(name).measure(data)
            seconds = round(time.perf_counter() - start, 1)
            summary = {"wall_time_s": seconds, **result.summary()}
            if verdict := getattr(result, "verdict", None):
                summary["verdict"] = verdict._asdict()
            logger.info("%-21s %6.1f s  %s", name, seconds, _in_words(verdict))
            json.dumps(summary, allow_nan=False)  # a figure that is no number leaves the check out
            content["checks"][name] = summary
            arrays |= {f"{name}/{key}": value for key, value in _arrays(result).items()}
            # After each check: whoever stops a long one keeps those before it.
            buffer = BytesIO()
            np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
            write_atomic(out / DIAGNOSIS_ARRAYS, buffer.getvalue())
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
            write_atomic(out / DIAGNOSIS, text)
    parts.finish(content["checks"])
    return content


def _in_words(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return f"{'FOUND' if verdict.flagged else 'passed'}: {verdict.text}"


def _arrays(result: Any) -> dict[str, np.ndarray]:
    """The tensors of a result that are small enough to be plotted."""
    arrays: dict[str, np.ndarray] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor) and value.numel() <= _MAX_NUMBERS:
            arrays[field.name] = value.detach().cpu().numpy()
        elif is_dataclass(value):
            arrays |= {f"{field.name}/{name}": array for name, array in _arrays(value).items()}
    return arrays
