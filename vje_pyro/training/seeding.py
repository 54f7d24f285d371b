"""Randomness as a pure function of the step, so that nothing about it has to be stored."""

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's global generators (CPU and every accelerator) for one training step.

    Everything random that a step does (views, latent samples, dropout) then depends only on
    ``(seed, step, rank)``: a resumed run repeats it exactly, and whatever ran between two steps
    (monitoring, say) cannot disturb it. The three numbers are mixed by NumPy's ``SeedSequence``,
    so that neighbouring steps get unrelated streams.

    Args:
        seed: Seed of the run, not negative.
        step: Index of the step that is about to run, from 0.
        rank: Global rank of this process.
    """
    (mixed,) = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed))
