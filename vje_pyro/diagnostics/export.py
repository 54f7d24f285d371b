"""Inference on some data as ArviZ inference data, and as a NetCDF file.

Groups and variables; every variable has named dimensions:

====================  ======================================  =====================================
group                 variables                               dimensions
====================  ======================================  =====================================
posterior             z                                       chain, draw, datum, view, dim
posterior_predictive  direction                               chain, draw, datum, view, dim
posterior_predictive  radius, angle                           chain, draw, datum, view
prior                 z                                       chain, draw, datum, view, dim
prior_predictive      radius, angle                           chain, draw, datum, view
log_likelihood        direction, radius                       chain, draw, datum, view
sample_stats          lp, log_weight                          chain, draw, datum, view
sample_stats          elbo                                    datum, view
observed_data         direction                               datum, view, dim
observed_data         radius, angle                           datum, view
constant_data         source, scale                           datum, view, dim
constant_data         label, index                            datum
constant_data         class_size (where classes are named)    class
====================  ======================================  =====================================

``datum`` is the image. ``view`` is the source view of an ordered pair, where the posterior is that
of one view. Where it is that of all views (the joint objectives), ``view`` is the observed one, and
z, ``lp``, ``log_weight`` and ``elbo`` have no such dimension; the coordinate of ``class`` are
the names of the classes. Log densities are in nats and positive where likely: ``log_likelihood`` is
log p(u | z) with respect to surface area and log p(r | z), ``lp`` the log joint log p(z, u, r),
``log_weight`` lp less log q(z), and ``elbo`` its mean over the draws. Angles are in degrees, from
the normalised posterior mean (``predictive_check``). ``radius`` is in units of the embedding's
norm, ``scale`` that of the direction in units of z. Draws are independent: there is one chain.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro._version import __version__
from vje_pyro.atomic import make_folder, replacing
from vje_pyro.diagnostics import arviz_adapter
from vje_pyro.diagnostics._programs import chunks, log_density, seeded, site_log_probs
from vje_pyro.diagnostics.arviz_adapter import Variable
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.predictive import angles, predictive_location, predictive_sites
from vje_pyro.errors import CheckpointError, VJEError

SCHEMA = "vje-pyro-inference"
SCHEMA_VERSION = 1

MAX_BYTES = 2**30
"""Most that the draws of z and of directions may take, together."""

_GROUPS = ("posterior", "observed_data", "constant_data", "sample_stats")


@torch.no_grad()
def to_arviz(pairs: Pairs, num_samples: int = 100, seed: int = 0) -> Any:
    """Draws, log densities and data as ArviZ inference data, as this module's text says.

    Args:
        pairs: The data, N images. At D = 256, 200 images with 100 draws take 120 MiB.
        num_samples: Draws S of each datum.
        seed: Of the draws.

    Returns:
        An ``arviz.InferenceData`` (ArviZ 0.23), or an ``xarray.DataTree`` (1.x).

    Raises:
        ValueError: If ``num_samples`` is below 1, or the draws would take more than 1 GiB.
        VJEError: If ArviZ is too old, or the model has no site ``direction``.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    needed = 3 * num_samples * pairs.embeddings.numel() * 4
    if needed > MAX_BYTES:
        raise ValueError(
            f"{num_samples} draws of {len(pairs)} images in {pairs.num_features} dimensions take "
            f"{needed / 2**30:.1f} GiB: use fewer draws, or fewer images with pairs.subset()."
        )
    with seeded(seed):
        parts = [_draw(pairs, size) for size in chunks(num_samples, pairs.embeddings.numel())]
    draws: dict[str, dict[str, Variable]] = {
        group: {
            name: _draws(
                torch.cat([part[group][name] for part in parts]),
                len(pairs),
                event=name in ("z", "direction") and group != "log_likelihood",
            )
            for name in variables
        }
        for group, variables in parts[0].items()
    }
    log_weight = torch.cat([part["sample_stats"]["log_weight"] for part in parts])
    draws["sample_stats"]["elbo"] = _data(log_weight.mean(0), len(pairs))
    coords = {
        "view": np.arange(2),
        "datum": np.arange(len(pairs)),
        "dim": np.arange(pairs.num_features),
        "class": np.asarray(pairs.classes, dtype=object),
    }
    groups = draws | {"observed_data": _observed(pairs), "constant_data": _constant(pairs)}
    attrs = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "inference_library": "vje-pyro",
        "inference_library_version": __version__,
        "method": type(pairs.method).__name__,
        "guide": type(pairs.method.inference).__name__,
        "posterior": "all views" if pairs.joint else "one view",
        "split": pairs.split,
        "seed": seed,
    }
    return arviz_adapter.build(groups, coords, attrs)


def _draw(pairs: Pairs, num_samples: int) -> dict[str, dict[str, Tensor]]:
    """Draws and their log densities by group and variable, ``(S, ..., M)`` and events."""
    center = predictive_location(pairs)
    posterior, prior = (predictive_sites(pairs, num_samples, k) for k in ("posterior", "prior"))
    for sites in (posterior, prior):
        sites["angle"] = angles(sites["direction"], center)
    z = {"z": posterior.pop("z")}
    arguments = pairs.arguments()
    model = site_log_probs(pairs.method.model, arguments, z)
    joint = torch.stack([value.double().sum(-2) for value in model.values()]).sum(0)
    log_weight = joint - log_density(pairs.method.guide, arguments, z).double()
    return {
        "posterior": z,
        "posterior_predictive": posterior,
        "prior": {"z": prior.pop("z")},
        "prior_predictive": {n: v for n, v in prior.items() if n != "direction"},
        "log_likelihood": {n: v for n, v in model.items() if n != "z"},
        "sample_stats": {"lp": joint, "log_weight": log_weight},
    }


def _draws(values: Tensor, num_images: int, event: bool = False) -> Variable:
    """Draws ``(S, ..., M)``, or of vectors ``(S, ..., M, D)``, as (chain, draw, datum, …)."""
    vector = values.shape[-1:] if event else ()
    per_view = values.reshape(len(values), -1, num_images, *vector).transpose(1, 2)
    dims = ["chain", "draw", "datum", "view", "dim"][: 4 + len(vector)]
    if per_view.shape[2] == 1:  # of the image, not of a view
        per_view = per_view.squeeze(2)
        dims.remove("view")
    return dims, per_view[None].numpy()


def _data(values: Tensor, num_images: int, event: bool = False) -> Variable:
    """Values ``(..., M)``, or vectors ``(..., M, D)``, as (datum, …)."""
    dims, per_view = _draws(values[None], num_images, event)
    return dims[2:], per_view[0, 0]


def _observed(pairs: Pairs) -> dict[str, Variable]:
    direction = normalize(pairs.target, dim=-1)
    return {
        "direction": _data(direction, len(pairs), event=True),
        "radius": _data(pairs.target.norm(dim=-1), len(pairs)),
        "angle": _data(angles(direction, predictive_location(pairs)), len(pairs)),
    }


def _constant(pairs: Pairs) -> dict[str, Variable]:
    variables: dict[str, Variable] = {
        "source": _data(pairs.source, len(pairs), event=True),
        "scale": _data(pairs.scale, len(pairs), event=True),
        "label": (("datum",), pairs.labels.numpy()),
        "index": (("datum",), pairs.indices.numpy()),
    }
    if pairs.classes:
        labelled = pairs.labels[pairs.labels >= 0]
        size = torch.bincount(labelled, minlength=len(pairs.classes))
        variables["class_size"] = (("class",), size.numpy())
    return variables


def save_netcdf(data: Any, path: str | Path, overwrite: bool = False) -> Path:
    """Write inference data to a NetCDF file, all or nothing.

    Args:
        data: What :func:`to_arviz` returned.
        path: Of the file; its folder is made.
        overwrite: Whether an older file may be replaced.

    Raises:
        VJEError: If there is a file already, or ``data`` is not from :func:`to_arviz`.
        WriteError: If the file cannot be written; what was there before is untouched.
    """
    path = Path(path)
    _check_schema(arviz_adapter.read_attributes(data), "the data")
    if path.exists() and not overwrite:
        raise VJEError(f"{path} is there already: give another path, or overwrite=True.")
    make_folder(path.parent)
    with replacing(path) as (_, partial):
        arviz_adapter.write_netcdf(data, partial)
    return path


def load_netcdf(path: str | Path) -> Any:
    """Read what :func:`save_netcdf` wrote, into memory.

    Raises:
        CheckpointError: If the file is absent, truncated, no NetCDF, or NetCDF that is not of this
            schema version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no NetCDF file at {path}: save_netcdf writes one.")
    try:
        data = arviz_adapter.read_netcdf(path)
        attributes, groups = (
            arviz_adapter.read_attributes(data),
            arviz_adapter.group_names(data),
        )
    except (VJEError, MemoryError):
        raise
    except Exception as error:
        # Whatever is wrong with a file, the libraries below answer with errors of many kinds.
        raise CheckpointError(
            f"{path} cannot be read: it is no NetCDF file, or only part of one ({error}). Export "
            f"the run again."
        ) from error
    _check_schema(attributes, str(path))
    missing = [name for name in _GROUPS if name not in groups]
    if missing:
        raise CheckpointError(f"{path} lacks the groups {missing}: export the run again.")
    return data


def _check_schema(attributes: dict[str, Any], name: str) -> None:
    found = (attributes.get("schema"), attributes.get("schema_version"))
    if found != (SCHEMA, SCHEMA_VERSION):
        raise CheckpointError(
            f"{name}: expected schema {SCHEMA!r} version {SCHEMA_VERSION}, found {found[0]!r} "
            f"version {found[1]!r}. It was not written by this version of vje-pyro: make it anew "
            f"with to_arviz."
        )
