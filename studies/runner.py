"""What is missing of a study, done: jobs in processes of their own, a result stored at a time."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studies import ROOT
from studies.processes import GRACE, run_all
from studies.store import Record, Store
from studies.study import Job, Study
from vje_pyro.data import list_outliers

SHOWN = 15
"""Lines of a job's log that are shown when it fails."""


@dataclass(frozen=True)
class Place:
    """Where studies compute, read and write.

    Args:
        root: Holds ``runs/`` and ``docs/results/``.
        data_root: Folder of the data sets.
        device: ``cpu`` or ``cuda``, whose results lie in ``docs/results/cuda``.
        overrides: Of every training, beside those of the study.
    """

    root: Path = ROOT
    data_root: Path = Path("data")
    device: str = "cpu"
    overrides: tuple[str, ...] = ()

    @property
    def store(self) -> Store:
        """The results of this device."""
        folder = self.root / "docs" / "results"
        return Store(folder if self.device == "cpu" else folder / self.device)

    @property
    def runs(self) -> Path:
        """Folder of the trainings and logs."""
        return self.root / "runs" if self.device == "cpu" else self.root / "runs" / self.device

    def arguments(self) -> list[str]:
        """For the command line of another process."""
        return [
            "--root", str(self.root), "--data-root", str(self.data_root), "--device", self.device,
            *(word for override in self.overrides for word in ("--set", override)),
        ]  # fmt: skip


def missing(
    place: Place, study: Study, variants: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> list[Job]:
    """What of a study can be begun now; all of its variants if none is named.

    Raises:
        VJEError: There is no such variant.
    """
    chosen = list(variants or study.variants)
    for variant in chosen:
        study.overrides_of(variant)
    outliers = list_outliers(place.data_root) if (place.data_root / "ood").is_dir() else []
    return study.missing(place.store.read(study.name), chosen, seeds, outliers)


def run(
    place: Place,
    study: Study,
    variants: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    workers: int = 1,
    seconds: float = float("inf"),
) -> tuple[bool, int]:
    """Do what is missing of a study, as long as there is time; a job that fails stops no other.

    Returns:
        Whether all is done, and how many jobs failed.
    """
    end, failed = time.monotonic() + seconds, 0
    tried: set[Job] = set()
    while jobs := [j for j in missing(place, study, variants, seeds) if j not in tried]:
        if end - time.monotonic() <= GRACE:
            print(f"{study.name}: no time left; start it again to go on", flush=True)
            return False, failed
        commands = [(_log(place, study, job), _command(place, study, job)) for job in jobs]
        codes = run_all(commands, workers, end - time.monotonic())
        for job, code, (log, _) in zip(jobs, codes, commands, strict=True):
            said = {0: "done", None: "cut off or not begun"}.get(code, "failed")
            print(f"{study.name} {job.variant}, seed {job.seed}: {said}", flush=True)
            if code is not None:
                tried.add(job)
            if code:
                failed += 1
                print("".join(log.read_text(errors="replace").splitlines(True)[-SHOWN:]))
    return not missing(place, study, variants, seeds), failed


def do(place: Place, study: Study, variant: str, seed: int, rate: float | None) -> None:
    """One job, in this process: train, measure what is missing, store each result.

    Raises:
        VJEError: It cannot be done; what was measured before is stored.
    """
    from studies.evaluations import Trained, measure

    jobs = missing(place, study, [variant], [seed])
    tasks = [task for job in jobs if job[:3] == (variant, seed, rate) for task in job.tasks]
    searched = [] if rate is None else [f"optimizer.lr={rate:g}"]
    where = [f"device.accelerator={place.device}", "training.progress=false", *place.overrides]
    os.environ["VJE_DATA"] = str(place.data_root)
    os.environ["VJE_TRUST"] = "studies"  # studies/levers.py, of this process and its training's
    trained = Trained(
        _run_dir(place, study, Job(variant, seed, rate, ())), seed,
        study.overrides_of(variant, [*searched, *where]), place.device, place.data_root,
        [r for r in place.store.read(study.name) if (r.variant, r.result.seed) == (variant, seed)],
    )  # fmt: skip
    for result in measure(trained, tasks):
        trained.records.append(Record(variant, result))
        place.store.add(study.name, trained.records[-1:])
        for name, x in result.figures.items():
            print(f"{result.protocol:20} {name:29} {x.value:.4f}  [{x.low:.4f}, {x.high:.4f}]")


def _run_dir(place: Place, study: Study, job: Job) -> Path:
    searched = "" if job.rate is None else f"rate-{job.rate:g}-"
    return place.runs / study.name / job.variant / f"{searched}seed{job.seed}"


def _log(place: Place, study: Study, job: Job) -> Path:
    path = _run_dir(place, study, job)
    return path.with_name(f"{path.name}.log")


def _command(place: Place, study: Study, job: Job) -> list[str]:
    rate = [] if job.rate is None else ["--rate", repr(job.rate)]
    return [
        sys.executable, "-m", "studies", "job", study.name, job.variant, str(job.seed), *rate,
        *place.arguments(),
    ]  # fmt: skip
