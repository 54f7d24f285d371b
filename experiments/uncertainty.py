"""``vje uncertainty``."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Results, Run, Where, _home, quiet
from vje_pyro.verbs.partial import attempted


def main(
    run: Run,
    /,
    *,
    cifar10h: Annotated[str | None, Parameter(converter=_home)] = None,
    images: int = 1000,
    results: Annotated[Results, Parameter(name=("--results", "--out"))] = None,
    where: Where = HERE,
) -> None:
    """Is the uncertainty higher for errors, ambiguous labels and corrupted images?

    Writes RUN/results/uncertainty-v2.json: the area under the risk-coverage curve of kNN and of
    the linear probe, the AUROC for errors of the nearest neighbour, rank correlations with the
    entropy of human labels (CIFAR-10H) and with the severity of corruptions, how often a crop is
    less certain than its image, the calibration error of the predicted angle between views, and
    the posterior from more views. What cannot be measured is skipped and named, and the exit code
    is then 3.

    Examples::

        vje uncertainty runs/cifar10
        vje posterior runs/cifar10 && vje uncertainty runs/cifar10   # with the joint posterior

    Args:
        cifar10h: Human labels (default: cifar10h.npz in the data root).
        images: Number of test images to corrupt and crop.
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.statistics import show
    from vje_pyro.verbs.uncertainty import uncertainty

    job = partial(uncertainty, loaded, human_labels=cifar10h, num_images=images, folder=results)
    with attempted(job) as result:
        for name, figure in result.figures.items():
            print(f"{name:40} {show(figure, '.4f')}")
        for name, value in result.details.items():
            if name != "left_out":
                print(f"{name:40} {value}")
        print(f"result in {results or loaded.directory.results}")
