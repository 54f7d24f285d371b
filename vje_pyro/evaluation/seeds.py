"""Which results are repetitions of one experiment."""

from collections.abc import Sequence

from vje_pyro.errors import VJEError
from vje_pyro.evaluation.result import Result


def check_comparable(where: str, results: Sequence[Result]) -> None:
    """Refuse to average results that are not repetitions of one experiment.

    Args:
        where: What they are of, for the message.
        results: One a seed.

    Raises:
        VJEError: If a seed repeats, or data or settings differ.
    """
    seeds = [result.seed for result in results]
    if len(set(seeds)) < len(seeds):
        raise VJEError(f"{where}: seeds {seeds} repeat; keep one result file a seed")
    for result in results[1:]:
        for attribute in ("dataset", "settings"):
            first, other = getattr(results[0], attribute), getattr(result, attribute)
            if first != other:
                raise VJEError(
                    f"{where}: seeds {seeds[0]} and {result.seed} differ in {attribute} "
                    f"({first} and {other}); they belong to different studies"
                )
