"""``vje evaluate``."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Results, Run, Where, print_results
from vje_pyro.names import DEFAULT_PROTOCOLS, Features, Protocol
from vje_pyro.verbs.partial import attempted


def main(
    run: Run,
    /,
    *,
    features: Features = "encoder",
    protocols: tuple[Protocol, ...] = DEFAULT_PROTOCOLS,
    results: Annotated[Results, Parameter(name=("--results", "--out"))] = None,
    where: Where = HERE,
) -> None:
    """KNN, linear probe and few labels, into result files.

    What cannot be measured is skipped and named, and the exit code is then 3; everything else is
    written.

    Examples::

        vje evaluate runs/digits
        vje evaluate runs/digits --protocols knn-v1 --features pixels

    Args:
        features: Output of the encoder, of the batch norm after it, after whitening by the
            differences between views of an image, or the raw pixels.
        protocols: Protocols to measure.
    """
    loaded = where.load(run)
    from vje_pyro.verbs.evaluate import evaluate

    job = partial(evaluate, loaded, protocols, features=features, folder=results)
    with attempted(job) as found:
        print_results(found)
        print(f"results in {results or loaded.directory.results}")
