"""What the configuration of ``vje train`` may hold: ``experiments/conf/train.yaml`` and its groups.

The ranges of components stand at their constructors; here are the groups that are none.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from annotated_types import Gt, Le
from omegaconf import DictConfig, OmegaConf

from vje_pyro.checking import Arguments, Component, check_config
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


class Loggers(TypedDict):
    """The trackers of ``conf/logger``."""

    tensorboard: NotRequired[Component]
    wandb: NotRequired[Component]
    mlflow: NotRequired[Component]


class Config(TypedDict):
    """The whole configuration."""

    name: str
    seed: Seed
    run_dir: str
    init_from: str | None
    trust: NotRequired[Sequence[str]]
    chosen: NotRequired[Sequence[str]]
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
                "monitor", "seed", "config", "data_digest", "resume", "trackers",
            ),
        ),
    ]  # fmt: skip
    monitor: Annotated[Component, Arguments(given=("data", "normalize", "score"))]
    device: Device
    logger: NotRequired[Loggers]


_ANY_IMAGE = {"channels": 3, "size": 32}
"""What encoders may refer to before the data set is known."""


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
