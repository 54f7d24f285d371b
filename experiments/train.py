"""``vje train``."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vje_pyro.configuration import CONFIG_DIR, groups
from vje_pyro.errors import VJEError, first_line
from vje_pyro.experiments.common import Packages, reported, split_trust
from vje_pyro.training.run_dir import RunDir

if TYPE_CHECKING:
    from omegaconf import DictConfig

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""Overrides; Hydra's own options begin with a hyphen."""


def help_epilogue() -> str:
    """The groups of the configuration with their choices."""
    lines = (f"  {name}: {' '.join(choices)}" for name, choices in groups().items())
    return "\n".join(["Groups and choices, chosen by GROUP=CHOICE:", "", *lines])


def main(*overrides: Words, help_keys: bool = False, trust: Packages = ()) -> None:
    """Train a method on a data set, and print the run directory.

    Overrides are key=value, and group=choice for whole groups (below). Hydra's options work: -m for
    a sweep, --cfg job to print the configuration without training, --hydra-help for the others.

    Examples::

        vje train data.root=PHOTOS
        vje train experiment=digits
        vje train experiment=cifar10 data.root=DIR data.download=true encoder=resnet18
        vje train -m experiment=cifar10_small seed=0,1,2
        vje train resume=RUN
        vje train experiment=digits --help-keys

    Args:
        overrides: key=value, group=choice; or resume=RUN to continue a run.
        help_keys: Print every key with its value and what it means, and do not train.
    """
    packages, words = split_trust(trust, overrides)
    runs = [word.removeprefix("resume=") for word in words if word.startswith("resume=")]
    if help_keys:
        from vje_pyro.configuration.explaining import explained_keys

        print("\n".join(explained_keys(words)))
    elif runs:
        others = [word for word in words if not word.startswith("resume=")]
        _resume(os.path.expanduser(runs[-1]), others, packages)
    else:
        _run_hydra(words)  # what a user writes needs no trust; Hydra does not know the option


def _resume(run: str, overrides: Sequence[str], trust: Sequence[str]) -> None:
    RunDir(run).require()
    from vje_pyro.verbs.pretrain import resume

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    resume(run, overrides, trust)


def _run_hydra(words: Sequence[str]) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from vje_pyro.configuration.choosing import with_choices
    from vje_pyro.configuration.overrides import readable, swept_keys
    from vje_pyro.configuration.sweeps import Sweep

    words = with_choices(readable(words))
    _check(words)
    sweep = Sweep()

    def job(config: "DictConfig") -> float | None:
        from vje_pyro.verbs import pretrain

        job = HydraConfig.get()
        if job.mode != RunMode.MULTIRUN:
            with reported():  # of other errors Hydra says more
                pretrain.pretrain(config, Path(config.run_dir).expanduser().absolute())
            return None
        swept = swept_keys(words)
        with sweep.job(job.job.num, [o for o in job.overrides.task if o.split("=")[0] in swept]):
            return pretrain.pretrain(config, job.runtime.output_dir).best_value
        return None

    sys.argv[1:] = words
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, and are not printed by Hydra
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise VJEError(f"the overrides cannot be used: {first_line(error)}") from error
    finally:
        code = sweep.exit_code()
    if code:
        sys.exit(code)


def _check(words: Sequence[str]) -> None:
    """Refuse overrides before Hydra does, whose own errors are many lines or a traceback.

    Hydra's own options are left to it. Of a sweep the jobs must compose; each job checks what it
    composes to.
    """
    from vje_pyro.configuration.overrides import MULTIRUN, composed, sample_jobs

    others = [word for word in words if word not in MULTIRUN]
    if any(word.startswith("-") for word in others):
        return
    if len(others) < len(words):
        for job in sample_jobs(others):
            composed(job)
        return
    config = composed(others)
    from vje_pyro.configuration.schema import check

    check(config)
