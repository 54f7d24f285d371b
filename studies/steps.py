"""The list of a GPU, one study after the other, as long as there is time."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import yaml

from studies import runner
from studies.study import FOLDER, Study
from vje_pyro.errors import VJEError


def run_steps(
    place: runner.Place, seconds: float, only: Sequence[str] = (), tiny: bool = False
) -> int:
    """Do what is missing of the steps in ``gpu.yaml`` in their order, those first that come first.

    A step is begun if the least time that it needs is left, and left out if its data are not there.

    Args:
        place: Where.
        seconds: Time that there is.
        only: Names of steps; all of them by default.
        tiny: One variant and seed of each, small, on the CPU.

    Returns:
        How many jobs failed.

    Raises:
        VJEError: There is no such step.
    """
    listed = yaml.safe_load((FOLDER / "gpu.yaml").read_text(encoding="utf-8"))
    steps = listed["steps"]
    if unknown := [name for name in only if name not in steps]:
        raise VJEError(f"no steps {unknown}; there are {list(steps)}")
    place = _tiny(place, listed["tiny"]) if tiny else place
    end, failed = time.monotonic() + seconds, 0
    for name in only or steps:
        step, left = steps[name], end - time.monotonic()
        study = Study.read(step["study"])
        variants = (step.get("only") or list(study.variants))[: 1 if tiny else None]
        seeds = step.get("seeds", [0] if tiny else None)
        there = tiny or "needs" not in step or (place.data_root / step["needs"]).exists()
        if not there or not runner.missing(place, study, variants, seeds):
            print(f"{name}: {'nothing is missing' if there else 'its data are not there'}")
        elif left < 60 * step["least"]:
            print(f"{name}: does not fit into {left / 60:.1f} min")
        else:
            print(f"{name}: {left / 60:.1f} min left", flush=True)
            workers = step.get("workers", 1)
            done, errors = runner.run(place, study, variants, seeds, workers, left)
            failed += errors
            print(f"{name}: {'done' if done else 'not done'}", flush=True)
    return failed


def _tiny(place: runner.Place, overrides: Sequence[str]) -> runner.Place:
    noise = place.data_root / "ood" / "noise.npz"
    if not noise.exists():
        noise.parent.mkdir(parents=True, exist_ok=True)
        np.savez(noise, x=np.random.default_rng(0).integers(256, size=(60, 8, 8), dtype=np.uint8))
    return replace(place, device="cpu", overrides=(*overrides, *place.overrides))
