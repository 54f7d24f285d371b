"""Can the inference of a run be believed? Checks of :mod:`vje_pyro.diagnostics` on a run."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vje_pyro import names
from vje_pyro.atomic import write_atomic
from vje_pyro.building import build
from vje_pyro.diagnostics import (
    Likelihood,
    NutsComparison,
    Pairs,
    Recalibrated,
    Temperature,
    Verdict,
    amortisation_gap,
    block_importance,
    classifier_test,
    compare_likelihoods,
    compare_with_nuts,
    feature_check,
    fit_temperature,
    importance_weights,
    latent_usage,
    predictive_check,
    require_posterior,
    save_netcdf,
    simulation_based_calibration,
    to_arviz,
)
from vje_pyro.distributions import (
    PowerSpherical,
    ProjectedNormal,
    ProjectedStudentT,
    SphericalNormal,
    SphericalStudentT,
    VonMisesFisher,
)
from vje_pyro.distributions._common import is_subdensity
from vje_pyro.errors import DataError, VJEError
from vje_pyro.provenance import origin
from vje_pyro.run import Representation
from vje_pyro.training.run_dir import DIAGNOSIS, DIAGNOSIS_ARRAYS, DIAGNOSIS_DRAWS
from vje_pyro.verbs.pairs import split_pairs
from vje_pyro.verbs.partial import Parts, output_folder

logger = logging.getLogger(__name__)

SCHEMA, SCHEMA_VERSION = "vje-pyro-diagnostics", 2
_MAX_NUMBERS = 200_000
"""Arrays larger than this stay out of the file for plots: draws, not results."""

_VIEWS_PER_IMAGE = 4
"""Pairs of views of each image that coverage is measured on: one an image is too few."""


@dataclass(frozen=True)
class Data:
    """What a check is given: pairs of held-out and of training images, the run and the seed."""

    heldout: Pairs
    train: Pairs
    run: Representation
    seed: int

    @cached_property
    def nuts(self) -> NutsComparison:
        """The guide beside NUTS, which two checks look at."""
        return compare_with_nuts(self.heldout, seed=self.seed)


@dataclass(frozen=True)
class Recalibration:
    """A temperature fitted on training views, and its predictions of held-out and of fresh views.

    Args:
        temperature: As it was fitted, on four pairs of views of each training image.
        heldout: Of held-out images, four pairs of views each.
        train: Of the training images, four fresh pairs of views each: what is still missing there
            is not due to the encoder having seen the images.
    """

    temperature: Temperature
    heldout: Recalibrated
    train: Recalibrated

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        parts = {"heldout": self.heldout.summary(), "train": self.train.summary()}
        return {"temperature": self.temperature.summary(), **parts}


def _recalibrate(data: Data) -> Recalibration:
    def again(pairs: Pairs, view_seed: int) -> Pairs:
        return split_pairs(
            data.run, pairs.split, len(pairs), data.seed, view_seed, _VIEWS_PER_IMAGE
        )

    temperature = fit_temperature(again(data.train, data.seed + 1), seed=data.seed)
    judged = (again(pairs, data.seed + 2) for pairs in (data.heldout, data.train))
    return Recalibration(temperature, *(temperature.apply(pairs) for pairs in judged))


def _compare(data: Data) -> Any:
    """The run's radius with every direction that is a density."""
    config = data.run.config["method"]
    guide = build(config["guide"])
    radius = require_posterior(data.run.method).radius
    if radius is not None:
        radius = normalized(radius, loc=torch.ones(()))
    student_t = partial(SphericalStudentT, df=1.0)
    candidates = {
        "SphericalStudentT": Likelihood(partial(student_t, normalized=True), radius),
        "SphericalNormal": Likelihood(partial(SphericalNormal, normalized=True), radius),
        "ProjectedStudentT": Likelihood(partial(ProjectedStudentT, df=1.0), radius),
        "ProjectedNormal": Likelihood(ProjectedNormal, radius),
        "VonMisesFisher": Likelihood(VonMisesFisher, radius),
        "PowerSpherical": Likelihood(PowerSpherical, radius),
    }
    return compare_likelihoods(data.train, data.heldout, candidates, guide, seed=data.seed)


def normalized(factor: Callable[..., Any], **arguments: Tensor) -> Callable[..., Any]:
    """A likelihood factor, or its normalised twin where it is a subdensity."""
    return partial(factor, normalized=True) if is_subdensity(factor(**arguments)) else factor


CHECKS: dict[str, Callable[[Data], Any]] = {
    "importance": lambda d: importance_weights(d.heldout, seed=d.seed),
    "blocks": lambda d: block_importance(d.heldout, seed=d.seed),
    "latent": lambda d: latent_usage(d.heldout, seed=d.seed),
    "amortisation": lambda d: amortisation_gap(d.heldout, seed=d.seed),
    "posterior_predictive": lambda d: predictive_check(d.heldout, seed=d.seed),
    "prior_predictive": lambda d: predictive_check(d.heldout, seed=d.seed, kind="prior"),
    "features": lambda d: feature_check(d.heldout, seed=d.seed),
    "prior_features": lambda d: feature_check(d.heldout, seed=d.seed, kind="prior"),
    "temperature": _recalibrate,
    "sbc_guide": lambda d: simulation_based_calibration(d.heldout, "guide", seed=d.seed),
    "nuts": lambda d: d.nuts,
    "c2st": lambda d: classifier_test(d.nuts),
    "comparison": _compare,
    "sbc_nuts": lambda d: simulation_based_calibration(
        d.heldout,
        "nuts",
        num_samples=40,
        num_simulations=100,
        num_bins=5,
        num_chains=2,
        num_warmup=500,
        thin=5,
        max_tree_depth=7,
        seed=d.seed,
    ),
}
"""From the data to a result with a ``summary()``, and with a ``verdict`` where it is a test."""


def diagnose(
    run: Representation,
    checks: Sequence[str] = names.CHECKS,
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
        checks: Names from :data:`CHECKS`.
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
    if unknown := [name for name in checks if name not in CHECKS]:
        raise VJEError(f"unknown checks {unknown}; choose from {list(CHECKS)}.")
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
    parts, data = Parts(), Data(heldout, train, run, seed)
    for name in checks:
        with parts.part(name):
            start = time.perf_counter()
            result = CHECKS[name](data)
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
