"""Objects from configurations: every component is named by its ``_target_``."""

from collections.abc import Iterable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from vje_pyro.errors import CheckpointError, VJEError

# A run directory may come from a stranger, and a ``_target_`` names any callable: only what these
# packages define themselves is called, unless the user vouches for more.
_TRUSTED = ("vje_pyro", "torch.optim")


def build(config: Any, **arguments: Any) -> Any:
    """Instantiate a configuration that the user wrote.

    Raises:
        VJEError: If a component cannot be made; the message is the component's own.
    """
    try:
        return instantiate(config, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, VJEError):
            raise cause from None
        raise VJEError(str(cause or error)) from error


def build_trusted(config: Mapping[str, Any], trust: Iterable[str] = ()) -> Any:
    """Instantiate a configuration that was read from a file, after :func:`check_trusted`."""
    check_trusted(config, trust)
    return build(OmegaConf.create(dict(config)))


def check_trusted(config: Mapping[str, Any], trust: Iterable[str] = ()) -> None:
    """Refuse a configuration that names code of a stranger.

    Args:
        config: Resolved configuration, JSON-like.
        trust: Further packages whose callables may be named by it.

    Raises:
        CheckpointError: If it names a callable of a package that is not trusted; nothing of that
            package has been imported then.
    """
    packages = (*_TRUSTED, *trust)
    for target in _targets(config):
        if not (_within(target, packages) and _within(_home(target), packages)):
            raise CheckpointError(
                f"the run's configuration names {target!r}, which is outside of {packages}: if "
                f"you trust the run, allow its package with trust=({target.split('.')[0]!r},) or "
                f"--trust {target.split('.')[0]}."
            )


def _targets(node: Any) -> Iterable[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _targets(value)


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _home(target: str) -> str:
    """Where a callable was defined: ``vje_pyro.run.os.system`` is not vje_pyro's own."""
    try:
        return str(getattr(get_object(target), "__module__", ""))
    except Exception as error:
        raise CheckpointError(
            f"the run's configuration names {target!r}, which cannot be found ({error}): was it "
            f"written by another version of vje-pyro?"
        ) from error
