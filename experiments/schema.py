"""What the configuration of ``vje train`` may hold: ``experiments/conf/train.yaml`` and its groups.

The ranges of components stand at their constructors; here are the groups that are none.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from annotated_types import Gt, Le
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vje_pyro.checking import Arguments, Component, check_config
from vje_pyro.errors import VJEError, first_line
from vje_pyro.experiments.overrides import MULTIRUN, sample_jobs
from vje_pyro.ranges import Channels, ImageSize, NonNegativeInt, PositiveInt, Seed
from vje_pyro.training.loop import Trainer


class Loader(TypedDict):
    """Batches; what each key means stands in ``conf/train.yaml``."""

    batch_size: PositiveInt
    num_workers: NonNegativeInt


class Image(TypedDict):
    """Filled in from the data set."""

    channels: Channels
    size: ImageSize


class Likelihood(TypedDict):
    """The factors of VJE's likelihood."""

    direction: Component
    radius: Component | None


class Device(TypedDict):
    """Where a run computes; what each key means stands in ``conf/device/auto.yaml``."""

    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"]
    devices: PositiveInt | Literal["auto", -1] | Sequence[NonNegativeInt]
    num_nodes: PositiveInt
    strategy: str  # training.devices says why one is refused
    timeout_s: Annotated[float, Gt(0), Le(1e6)]
    max_restarts: NonNegativeInt
    sync_batch_norm: bool
    activation_checkpointing: bool
    precision: Literal["auto", "32-true", "bf16-mixed"]
    compile: Literal["default", "reduce-overhead"] | None


class Config(TypedDict):
    """The whole configuration."""

    name: str
    seed: Seed
    run_dir: str
    init_from: str | None
    trust: NotRequired[Sequence[str]]
    data: Component
    views: Annotated[Component, Arguments(given=("image_size", "mean", "std"))]
    image: Image
    encoder: NotRequired[Component]
    guide: NotRequired[Component]
    likelihood: NotRequired[Likelihood]
    prior: NotRequired[Component]
    aggregate: NotRequired[Component | None]
    objective: NotRequired[Component]
    latents: NotRequired[Component | None]
    alignment: NotRequired[Component | None]
    method: Component
    optimizer: Component
    schedule: Component
    loader: Loader
    training: Annotated[
        dict,
        Arguments(
            of=Trainer,
            given=(
                "method", "loader", "views", "fabric", "run_dir", "optimizer", "schedule",
                "monitor", "seed", "config", "data_digest", "resume",
            ),
        ),
    ]  # fmt: skip
    monitor: Annotated[Component, Arguments(given=("data", "normalize", "score"))]
    device: Device


_ANY_IMAGE = {"channels": 3, "size": 32}
"""What encoders may refer to before the data set is known."""


def check_overrides(overrides: Sequence[str], config_dir: str) -> None:
    """Refuse overrides before Hydra does, whose own errors are many lines or a traceback.

    Args:
        overrides: Words of the command line. Hydra's own options are left to it; of a sweep the
            jobs must compose, but what they compose to is checked by each.
        config_dir: Folder of ``train.yaml``.

    Raises:
        VJEError: If they do not compose, or :func:`check` refuses what they compose to.
    """
    words = [word for word in overrides if word not in MULTIRUN]
    if any(word.startswith("-") for word in words):
        return
    with initialize_config_dir(config_dir, version_base="1.3"):
        if len(words) < len(overrides):
            for job in sample_jobs(words):
                _composed(job)
            return
        config = _composed(words)
    check(config)


def _composed(overrides: Sequence[str]) -> DictConfig:
    try:
        return compose("train", list(overrides))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if unknown := re.match(r"Could not override '(.+)'\.", str(error)):
            added = [f"+{w}" if w.split("=")[0] == unknown[1] else w for w in overrides]
            if added != list(overrides):
                check(_composed(added))  # names the nearest key
        raise VJEError(f"the overrides cannot be used: {first_line(error)}") from error


def check(config: DictConfig, only: Sequence[str] | None = None) -> None:
    """Refuse what ``vje train`` cannot use.

    Args:
        config: As composed from ``conf/train.yaml``.
        only: Keys to look at; all when None.

    Raises:
        VJEError: A line for each key that is wrong.
    """
    image = config.get("image") or {}
    if unset := [key for key in _ANY_IMAGE if OmegaConf.is_missing(image, key)]:
        config = config.copy()
        config.image.update({key: _ANY_IMAGE[key] for key in unset})
    check_config(config, Config, only)
