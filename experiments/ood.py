"""``vje ood``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Results, Run, Where, _home, quiet
from vje_pyro.verbs.partial import attempted

if TYPE_CHECKING:
    from vje_pyro.evaluation import Result


def main(
    run: Run,
    /,
    *,
    out: tuple[str, ...] = (),
    ood_root: Annotated[str | None, Parameter(converter=_home)] = None,
    views: int = 4,
    calibrate_on: Literal["validation"] | None = None,
    results: Results = None,
    where: Where = HERE,
) -> None:
    """Detect images of other data sets: every score, with its interval.

    Writes RUN/results/ood-v1-NAME.json for every set, with AUROC, AUPR and FPR at 95 % TPR of every
    score, and ood-v1-NAME.csv with the scores of every image. A higher score
    means more unusual. A set that cannot be used is skipped and named, and the exit code is then
    3.

    Examples::

        vje ood runs/digits --out noise svhn
        vje ood runs/photos --out other_photos

    Args:
        out: Sets: NAME of ROOT/ood/NAME.npz (default: all of them), a set of torchvision in ROOT,
            or, if the run's data are image files, a folder.
        ood_root: Folder with the sets (default: the run's data root).
        views: Number of random views per image.
        calibrate_on: Images for the p-values; validation: those that data.train_limit left out of
            training (default: training images).
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.verbs.detect import detect

    job = partial(
        detect, loaded, out, root=ood_root, num_views=views, calibrate_on=calibrate_on,
        folder=results,
    )  # fmt: skip
    with attempted(job) as found:
        print_table(found)
        print(f"results in {results or loaded.directory.results}")


def print_table(results: "dict[str, Result]", metric: str = "auroc") -> None:
    """A line per score with the metric on every set and its interval."""
    from vje_pyro.statistics import show

    wanted = [n for n in next(iter(results.values())).figures if n.startswith(f"{metric}_")]
    print(f"{metric:28}" + "".join(f"{name[:24]:26}" for name in results))
    for name in wanted:
        figures = (result.figures[name] for result in results.values())
        cells = (show(f, ".3f") for f in figures)
        print(f"{name.removeprefix(metric + '_'):28}" + "".join(f"{cell:26}" for cell in cells))
