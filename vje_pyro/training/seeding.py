"""Randomness as a pure function of the step, so that nothing about it has to be stored."""

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's generators (CPU and every accelerator) for step ``step`` of process ``rank``.

    Everything random in a step depends on ``(seed, step, rank)`` alone, mixed by NumPy's
    ``SeedSequence``: a resumed run repeats it exactly, and monitoring cannot disturb it.
    """
    (mixed,) = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed))
