"""The page of a study: the same as that of ``vje compare``, from stored results."""

from pathlib import Path

from studies.store import Store
from vje_pyro.report.comparison import Contender, figures_over_seeds, flatten
from vje_pyro.report.comparison_page import write_page

LOGS = "training-v1"
"""Protocol of what a study keeps of the logs."""

LEFT_OUT = ("rate-search-v1", "diagnostics-v2", LOGS)


def write(store: Store, study: str, title: str, out: Path) -> Path:
    """Write the page of the variants that have knn-v1; there are no curves, which are not stored.

    Args:
        store: The results.
        study: Whose.
        title: Heading of the page.
        out: The file.

    Raises:
        VJEError: Seeds of a variant are not repetitions of one experiment.
    """
    records = store.read(study)
    contenders = []
    for variant in dict.fromkeys(r.variant for r in records if r.result.protocol == "knn-v1"):
        results = [record.result for record in records if record.variant == variant]
        logs = [result for result in results if result.protocol == LOGS]
        runs = [result for result in results if result.protocol == "knn-v1"]
        shown = [result for result in results if result.protocol not in LEFT_OUT]
        logged = figures_over_seeds(variant, logs)
        contenders.append(
            Contender(
                label=variant,
                seeds=tuple(result.seed for result in runs),
                figures=figures_over_seeds(variant, shown),
                logged={name.removesuffix("_mib"): figure for (_, name), figure in logged.items()},
                curves={},
                config=dict(flatten(runs[0].config)),
            )
        )
    return write_page(contenders, title, out)
