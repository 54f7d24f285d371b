"""``vje diagnose``."""

import logging
from functools import partial
from typing import Annotated, Literal

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Results, Run, Where, quiet
from vje_pyro.names import CHECKS, SLOW_CHECKS, Check
from vje_pyro.verbs.partial import attempted


def main(
    run: Run,
    /,
    *,
    images: int = 200,
    train_images: int = 400,
    fit_on: Literal["train", "validation"] = "train",
    seed: int = 0,
    checks: tuple[Check, ...] = CHECKS,
    quick: bool = False,
    results: Annotated[Results, Parameter(name=("--results", "--out"))] = None,
    where: Where = HERE,
) -> None:
    """Can the posterior be believed? k-hat, calibration, NUTS and more.

    A check that cannot be made is left out by name, and the exit code is then 3.

    Examples::

        vje diagnose runs/digits --quick
        vje diagnose runs/digits --checks importance nuts --images 50

    Args:
        images: Held-out images that the inference is checked on.
        train_images: Training images that the temperature and the likelihoods are fitted on.
        fit_on: Split of those images; validation is what data.train_limit left out of training.
        seed: Of images, views and draws.
        checks: What is checked.
        quick: Leave out the checks that take minutes.
        results: Folder to write to, where the run's own cannot be written (RUN/diagnostics).
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.verbs.diagnose import diagnose

    logging.getLogger(diagnose.__module__).setLevel(logging.INFO)
    chosen = [name for name in checks if not (quick and name in SLOW_CHECKS)]
    folder = results or loaded.directory.diagnostics
    job = partial(
        diagnose, loaded, chosen, num_images=images, num_train=train_images, seed=seed,
        fit_on=fit_on, folder=folder,
    )  # fmt: skip
    with attempted(job):
        print(f"diagnostics in {folder}; show them with: vje report {run}")
