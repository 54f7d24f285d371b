"""``vje compare``."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vje_pyro.errors import VJEError
from vje_pyro.experiments.common import Packages, Place, _home
from vje_pyro.names import DEFAULT_PROTOCOLS, Protocol
from vje_pyro.verbs.partial import attempted


def _labelled(_: Any, tokens: Sequence[Any]) -> dict[str, list[str]]:
    """``--method LABEL WORD … --method LABEL WORD …`` as words by label."""
    found: dict[str, list[str]] = {}
    for token in tokens:
        if token.index == 0:  # the first word of an option
            if token.value in found:
                raise VJEError(
                    f"a label is given twice: {token.value!r}; give every method its own"
                )
            words = found[token.value] = []
        else:
            words.append(token.value)
    return found


Labelled = Annotated[
    dict[str, list[str]] | None,
    Parameter(converter=_labelled, n_tokens=-1, accepts_keys=False),
]


def main(
    out: Place,
    /,
    *,
    methods: Annotated[Labelled, Parameter(name="--method")] = None,
    runs: Annotated[Labelled, Parameter(name="--run")] = None,
    experiment: str = "digits",
    seeds: tuple[int, ...] = (0, 1, 2),
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    features: Literal["encoder", "batch-norm"] = "encoder",
    protocols: tuple[Protocol, ...] = DEFAULT_PROTOCOLS,
    data_root: Annotated[str | None, Parameter(converter=_home)] = None,
    trust: Packages = (),
    force: bool = False,
    title: str = "Comparison of methods",
) -> None:
    """Several methods on one page: accuracy, cost, outliers.

    The command trains methods (--method) or reads finished runs (--run). Each seed trains in its
    own process; an interrupted training continues. Missing measurements of a run are made. The
    results are OUT/comparison.md, .tex, .html and .json. What cannot be measured is skipped and
    named, and the exit code is then 3.

    Examples::

        vje compare OUT --experiment digits --seeds 0 1 2 --method vje --method simsiam
        vje compare OUT --method vje --method "vje, sigreg" method=vje aggregate=sigreg
        vje compare OUT --run vje RUN RUN RUN --run simsiam RUN RUN RUN

    Args:
        out: Folder of the comparison.
        methods: LABEL OVERRIDE …: train a method; the label alone means method=LABEL.
        runs: LABEL RUN …: finished runs of a method, one for each seed.
        experiment: Experiment for the trainings.
        seeds: Seeds of the trainings.
        overrides: Overrides for every training.
        features: Output of the encoder, or of the batch norm after it.
        protocols: Protocols to measure.
        data_root: Folder with the data set of the runs.
        force: Also compare runs that differ in more than the method (marked †).
        title: Heading of the page.
    """
    if not (methods or runs):
        raise VJEError("nothing to compare: give --method or --run")
    from vje_pyro.verbs.compare import compare

    job = partial(
        compare, out, methods or {}, runs or {}, experiment=experiment, seeds=seeds,
        overrides=overrides, features=features, protocols=protocols, data_root=data_root,
        trust=trust, force=force, title=title,
    )  # fmt: skip
    with attempted(job) as tables:
        print(tables)
        print(f"comparison in {out}/comparison.{{md,tex,html,json}}")
