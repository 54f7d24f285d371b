"""A study: variants of one experiment, seeds, and what is measured, from ``NAME/variants.yaml``.

The file::

    overrides: {experiment: cifar10_small}    # of all variants, as ``vje train`` takes them
    seeds: [0, 1, 2]
    evaluate:                                 # protocols by features (studies/evaluations.py)
      encoder: [knn-v1, linear-v1, few-v1: [a, b]]    # … and parts of one
    variants:
      baseline: {}
      df-3: {likelihood.direction.df: 3}      # null leaves a setting of all variants out
    own:                                      # optional: seeds and protocols of single variants
      df-3: {seeds: [0]}
    search:                                   # optional: of the rate, on validation images
      rates: [1e-3, 5e-4]
      beyond: {1e-3: 2e-3, 5e-4: 2.5e-4}      # the third rate, by the better of the first

A part is one of several results of a protocol, such as a mode of the throughput; those of
``ood-v1`` are the sets that there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from studies.store import Record
from vje_pyro.errors import VJEError

FOLDER = Path(__file__).parent
SEARCH_SEED = 0
SEARCH = "rate-search-v1"


class Task(NamedTuple):
    """One result: a protocol on features; ``part`` names one of several, such as an outlier set."""

    features: str
    protocol: str
    part: str = ""


class Job(NamedTuple):
    """One training and what is to be measured of it; ``rate`` is that of a search."""

    variant: str
    seed: int
    rate: float | None
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Study:
    """What ``variants.yaml`` says; see above."""

    name: str
    variants: Mapping[str, Mapping[str, Any]]
    evaluate: Mapping[str, Sequence[Any]]
    seeds: Sequence[int] = (0,)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, name: str, folder: Path = FOLDER) -> "Study":
        """The study of a name.

        Raises:
            VJEError: There is none, or its file says what is not known.
        """
        path = folder / name / "variants.yaml"
        if not path.is_file():
            known = sorted(p.parent.name for p in folder.glob("*/variants.yaml"))
            raise VJEError(f"no study {name!r} ({path}); there are {known}")
        try:
            return cls(name, **yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, TypeError) as error:
            raise VJEError(f"{path} cannot be read: {error}") from error

    def overrides_of(self, variant: str, more: Iterable[str] = ()) -> list[str]:
        """Of a variant, as ``vje train`` takes them; ``more`` replaces those of the same key.

        Raises:
            VJEError: There is no such variant.
        """
        if variant not in self.variants:
            raise VJEError(f"{self.name} has no variant {variant!r}; it has {list(self.variants)}")
        chosen = dict(self.overrides) | dict(self.variants[variant])
        chosen |= dict(override.split("=", 1) for override in more)
        return [f"{key}={value}" for key, value in chosen.items() if value is not None]

    def of(self, variant: str, name: str) -> Any:
        """``seeds`` or ``evaluate`` of a variant."""
        return self.own.get(variant, {}).get(name, getattr(self, name))

    # ---------------------------------------------------------------------- what is missing

    def missing(
        self,
        records: Sequence[Record],
        variants: Sequence[str],
        seeds: Sequence[int] | None,
        outliers: Sequence[str],
    ) -> list[Job]:
        """What can be begun now: searches of the rate; then one seed of all, the next, and so on.

        Args:
            records: What is there.
            variants: Those to do.
            seeds: Those to do; each variant's own when None.
            outliers: Names of the sets that ``ood-v1`` has to detect.
        """
        done = {record.key for record in records}
        jobs = [
            Job(variant, SEARCH_SEED, rate, (Task("encoder", SEARCH, str(rate)),))
            for nth in range(3)
            for variant in variants
            for rate in self.rates(records, variant)[nth : nth + 1]
        ]
        for seed in sorted({s for v in variants for s in seeds or self.of(v, "seeds")}):
            for variant in variants:
                rate = self.best_rate(records, variant)
                ready = self.search is None or rate is not None
                if ready and seed in (seeds or self.of(variant, "seeds")):
                    jobs.append(Job(variant, seed, rate, tuple(self._tasks(variant, outliers))))
        left = (job._replace(tasks=tuple(_left(job, done))) for job in jobs)
        return [job for job in left if job.tasks]

    def _tasks(self, variant: str, outliers: Sequence[str]) -> Iterator[Task]:
        parts = {"ood-v1": outliers}
        for features, protocols in self.of(variant, "evaluate").items():
            for item in protocols:
                given = item if isinstance(item, dict) else {item: parts.get(item, [""])}
                yield from (Task(features, name, part) for name in given for part in given[name])

    # --------------------------------------------------------------------- the learning rate

    def rates(self, records: Sequence[Record], variant: str) -> list[float]:
        """The rates of a variant's search; the third is not known until the first are judged."""
        if self.search is None:
            return []
        rates = list(map(float, self.search["rates"]))
        scores = self.scores(records, variant)
        if any(rate not in scores for rate in rates):
            return rates
        beyond = {float(key): float(value) for key, value in self.search["beyond"].items()}
        return [*rates, beyond[_best(rates, scores)]]

    def scores(self, records: Sequence[Record], variant: str) -> dict[float, float]:
        """Validation accuracy by rate."""
        return {
            r.result.settings["rate"]: r.result.figures["accuracy"].value
            for r in records
            if r.variant == variant and r.result.protocol == SEARCH
        }

    def best_rate(self, records: Sequence[Record], variant: str) -> float | None:
        """The best of the search, the smaller one of equals; None before its end."""
        rates, scores = self.rates(records, variant), self.scores(records, variant)
        complete = rates and all(rate in scores for rate in rates)
        return _best(rates, scores) if complete else None


def _best(rates: Sequence[float], scores: Mapping[float, float]) -> float:
    return max(rates, key=lambda rate: (scores[rate], -rate))


def _left(job: Job, done: set[tuple[str | int, ...]]) -> Iterator[Task]:
    for task in job.tasks:
        if (job.variant, task.protocol, task.features, job.seed, task.part) not in done:
            yield task
