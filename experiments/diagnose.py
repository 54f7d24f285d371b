"""``vje diagnose``."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Results, Run, Where, quiet
from vje_pyro.names import CHECKS
from vje_pyro.verbs.partial import attempted

if TYPE_CHECKING:
    Check = str
else:
    Check = Literal[tuple(CHECKS)]


def main(
    run: Run,
    /,
    *,
    images: int = 200,
    train_images: int = 400,
    fit_on: Literal["train", "validation"] = "train",
    seed: int = 0,
    checks: tuple[Check, ...] = tuple(CHECKS),
    quick: bool = False,
    results: Annotated[Results, Parameter(name=("--results", "--out"))] = None,
    where: Where = HERE,
) -> None:
    """Check the posterior: k-hat, calibration, NUTS and more.

    A check that cannot be made is skipped and named, and the exit code is then 3.

    Examples::

        vje diagnose runs/digits --quick
        vje diagnose runs/digits --checks importance nuts --images 50

    Args:
        images: Number of held-out images for the checks of the inference.
        train_images: Number of training images to fit temperature and likelihoods on.
        fit_on: Split of these images; validation: those that data.train_limit left out of training.
        seed: Random seed of images, views and draws.
        checks: Checks to make.
        quick: Skip the checks that take minutes.
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.diagnostics import load_check
    from vje_pyro.verbs.diagnose import diagnose

    logging.getLogger(diagnose.__module__).setLevel(logging.INFO)
    chosen = [name for name in checks if not (quick and load_check(name).slow)]
    folder = results or loaded.directory.diagnostics
    job = partial(
        diagnose, loaded, chosen, num_images=images, num_train=train_images, seed=seed,
        fit_on=fit_on, folder=folder,
    )  # fmt: skip
    with attempted(job):
        print(f"diagnostics in {folder}; show them with: vje report {run}")
