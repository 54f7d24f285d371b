"""ArviZ 0.23 (InferenceData, Python 3.11) and 1.x (DataTree, Python 3.12) behind the same calls.

Groups are made, written and read as an xarray ``DataTree``; ArviZ 0.23 gets it as its own
container. ArviZ takes seconds to import: only these functions do.
"""

import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from packaging.version import Version

from vje_pyro.errors import VJEError

Variable = tuple[Sequence[str], np.ndarray]
"""Names of the dimensions, and values."""

_OLDEST = Version("0.23")
_ENGINE = "h5netcdf"


def arviz() -> Any:
    """The ArviZ package.

    Raises:
        VJEError: If it is older than 0.23, or not installed.
    """
    _version()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # 0.23 announces ArviZ 1 once a day
        import arviz
    return arviz


def _version() -> Version:
    try:
        version = Version(metadata.version("arviz"))
    except metadata.PackageNotFoundError:
        raise VJEError("ArviZ is not installed: pip install 'arviz>=0.23'") from None
    if version < _OLDEST:
        raise VJEError(
            f"ArviZ {version} is too old, at least {_OLDEST} is needed: pip install 'arviz>=0.23'"
        )
    return version


def _has_data_tree() -> bool:
    return _version().major >= 1


def _for_arviz(tree: Any) -> Any:
    return tree if _has_data_tree() else arviz().InferenceData.from_datatree(tree)


def _tree(data: Any) -> Any:
    return data if _has_data_tree() else data.to_datatree()


def build(
    groups: Mapping[str, Mapping[str, Variable]],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Inference data of named groups.

    Args:
        groups: Variables of every group, each with the names of its dimensions.
        coords: Coordinates of dimensions; a group gets those that it uses. Without one, a
            dimension counts from 0.
        attrs: Attributes of the whole.

    Returns:
        An ``arviz.InferenceData`` (0.23), or an ``xarray.DataTree`` (1.x).

    Raises:
        VJEError: If ArviZ is too old.
        ValueError: If the dimensions of variables and coordinates do not fit together.

    Example:
        >>> data = build({"posterior": {"z": (("chain", "draw"), np.zeros((1, 3)))}}, {})
        >>> read_group(data, "posterior")["z"].shape
        (1, 3)
    """
    import xarray

    datasets = {f"/{name}": _dataset(variables, coords) for name, variables in groups.items()}
    root = {"/": xarray.Dataset(attrs=dict(attrs or {}))}
    return _for_arviz(xarray.DataTree.from_dict(root | datasets))


def _dataset(variables: Mapping[str, Variable], coords: Mapping[str, Any]) -> Any:
    import xarray

    sizes: dict[str, int] = {}
    for dims, values in variables.values():
        sizes |= dict(zip(dims, np.shape(values), strict=True))
    used = {name: coords.get(name, np.arange(size)) for name, size in sizes.items()}
    data = {name: (tuple(dims), values) for name, (dims, values) in variables.items()}
    return xarray.Dataset(data, coords=used)


def group_names(data: Any) -> tuple[str, ...]:
    """Names of the groups."""
    return tuple(_tree(data).children)


def read_group(data: Any, name: str) -> dict[str, np.ndarray]:
    """Variables of a group as arrays, coordinates left out.

    Raises:
        KeyError: If there is no such group.
    """
    return {str(key): variable.values for key, variable in data[name].data_vars.items()}


def read_attributes(data: Any) -> dict[str, Any]:
    """Attributes of the whole, as Python's own numbers, texts and lists."""
    arrays = np.generic | np.ndarray
    return {k: v.tolist() if isinstance(v, arrays) else v for k, v in data.attrs.items()}


def write_netcdf(data: Any, path: Path) -> None:
    """Write all groups to a NetCDF file, over what is there."""
    _tree(data).to_netcdf(path, engine=_ENGINE)


def read_netcdf(path: Path) -> Any:
    """Read what :func:`write_netcdf` wrote into memory, and close the file.

    Raises:
        Exception: Whatever the NetCDF library raises for a file that it cannot read.
    """
    import xarray

    with xarray.open_datatree(path, engine=_ENGINE) as tree:
        return _for_arviz(tree.load())


def psislw(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance weights.

    Args:
        log_weights: ``(N, S)``, S draws of each datum, in nats.

    Returns:
        Smoothed log weights that sum to one over the draws, ``(N, S)``, and k-hat ``(N,)``.

    Source: Vehtari et al., "Pareto smoothed importance sampling" (arXiv 1507.02646).
    """
    if not _has_data_tree():
        smoothed, pareto_k = arviz().psislw(log_weights)
    else:
        from arviz_stats.base import array_stats

        # This one takes log-likelihoods, whose inverses are leave-one-out's weights.
        smoothed, pareto_k = array_stats.psislw(-log_weights)
    return np.asarray(smoothed), np.asarray(pareto_k)


def compare(pointwise: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Rank, difference and stacking weight of models, by ``arviz.compare``.

    Args:
        pointwise: Log predictive density of the same n independent units under each model, in nats,
            ``(n,)``.

    Returns:
        For each model, best first: ``rank`` (from 0), ``elpd_diff`` (sum over the units, less that
        of the best: not positive), ``dse`` (its standard error) and ``weight`` (stacking).

    Source: stacking, Yao et al. (arXiv 1704.02030).
    """
    # Stacking exponentiates densities of hundreds of nats. A constant for each unit, the same for
    # all models, changes no difference and no weight.
    values = np.stack([np.asarray(row, dtype=np.float64) for row in pointwise.values()])
    values = values - values.max(0)
    elpds = {name: _elpd_data(row) for name, row in zip(pointwise, values, strict=True)}
    exact = {"round_to": "none"} if _has_data_tree() else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 0.23 with pandas 3
        table = arviz().compare(elpds, method="stacking", **exact)
    return {
        str(name): {
            "rank": int(row["rank"]),
            "elpd_diff": -abs(float(row["elpd_diff"])),
            "dse": float(row["dse"]),
            "weight": float(row["weight"]),
        }
        for name, row in table.iterrows()
    }


def _elpd_data(values: np.ndarray) -> Any:
    """The object that ``compare`` takes; its name for the estimator is the only one it knows."""
    import xarray

    n = len(values)
    pointwise = xarray.DataArray(values, dims=["unit"])
    common = {"se": (n * values.var()) ** 0.5, "n_samples": 1, "n_data_points": n}
    common |= {"scale": "log", "warning": False}
    if not _has_data_tree():
        from arviz.stats.stats import ELPDData

        row = {"elpd_loo": values.sum(), "p_loo": 0.0, "loo_i": pointwise} | common
        return ELPDData(data=list(row.values()), index=list(row))
    from arviz_stats import utils

    fields = {"elpd": values.sum(), "p": 0.0, "good_k": 0.7, "elpd_i": pointwise} | common
    if hasattr(utils, "ELPDDataLOO"):
        return utils.ELPDDataLOO(**fields)
    return utils.ELPDData(kind="loo", pareto_k=None, **fields)
