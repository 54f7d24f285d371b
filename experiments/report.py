"""``vje report``."""

from typing import Annotated

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Run, Where, _home


def main(
    run: Run,
    /,
    *,
    out: Annotated[str | None, Parameter(converter=_home)] = None,
    where: Where = HERE,
) -> None:
    """The HTML report of a run: one self-contained file.

    Examples::

        vje report runs/digits

    Args:
        out: File to write (default: RUN/report.html).
    """
    loaded = where.load(run)
    from vje_pyro.report import write_report

    print(write_report(loaded, out))
