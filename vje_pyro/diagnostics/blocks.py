r"""Which features does the guide have wrong? k-hat of blocks, where that of the whole saturates.

The importance weight of all features is a product over them: at D = 256 small errors multiply, and
k-hat is above 2 whether the guide is nearly right or has one feature entirely wrong. Here the
weights are those of a few features b, the others held at one draw of the guide:

.. math:: w_s = p(x, z_b^{(s)}, z_{-b}) / q(z_b^{(s)}), \qquad z_b^{(s)} \sim q, \quad z_{-b} \sim q

Of a guide whose features depend on each other (low rank, flow), q of a block is the Gaussian of its
moments.

Source: k-hat as in :mod:`vje_pyro.diagnostics.importance`; its blocks are this project's.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from vje_pyro.diagnostics._programs import chunks, log_density, seeded
from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown, Verdict
from vje_pyro.diagnostics.feature_check import blocks_of
from vje_pyro.diagnostics.importance import RELIABLE_K, pareto_k
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Histogram


@dataclass(frozen=True)
class BlockImportance:
    """k-hat of the weights of every block of features.

    Args:
        blocks: Names of the B blocks, ``z[0:16]`` …
        pareto_k: ``(m, B)``, of m data.
        joint: Whether the posterior is that of all views.
    """

    blocks: tuple[str, ...]
    pareto_k: Tensor
    joint: bool

    @property
    def median(self) -> Tensor:
        """Median over the data of each block, ``(B,)``; infinite where half of them have no fit."""
        return self.pareto_k.median(0).values

    @property
    def verdict(self) -> Verdict:
        """Whether k-hat of a block is above 0.7 for half of the data."""
        found = [name for name, k in zip(self.blocks, self.median, strict=True) if k > RELIABLE_K]
        worst = self.median.max().item()
        if not found:
            return Verdict(
                False, f"k-hat of each block of features is at most {worst:.2f} in the median."
            )
        some = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
        seen = "" if self.joint else ", which is part of it where the guide has not seen the target"
        return Verdict(
            True,
            f"{len(found)} of {len(self.blocks)} blocks have a median k-hat above 0.7 ({some}; at "
            f"most {worst:.2f}): the guide misses part of the posterior there{seen}. Train for "
            f"longer, or give the guide more freedom (guide=, hidden_features).",
        )

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        return {
            "num_data": len(self.pareto_k),
            "blocks": list(self.blocks),
            "pareto_k_median": [k if math.isfinite(k) else None for k in self.median.tolist()],
            "pareto_k_infinite": int((~self.pareto_k.isfinite()).sum()),
            "share_above_0.7": (self.pareto_k > RELIABLE_K).double().mean().item(),
            "level": RELIABLE_K,
        }


@torch.no_grad()
def block_importance(
    pairs: Pairs, num_samples: int = 1000, seed: int = 0, num_images: int = 16, block_size: int = 16
) -> BlockImportance:
    """k-hat of blocks of features, as this module's text says.

    Args:
        pairs: The data, of which the first ``num_images`` images are taken.
        num_samples: Draws S of each block, at least 100.
        seed: Of the draws.
        num_images: Images, or as many as there are.
        block_size: Features of a block.

    Raises:
        ValueError: If a number is too small.
    """
    if num_samples < 100 or num_images < 1 or block_size < 1:
        raise ValueError(
            f"k-hat needs num_samples of at least 100 and positive num_images and block_size, got "
            f"{num_samples}, {num_images} and {block_size}."
        )
    few = pairs.subset(slice(num_images))
    arguments = few.arguments()
    q = Normal(*few.moments)
    blocks = [b for b in blocks_of(few.num_features, block_size) if b.stop - b.start <= block_size]
    with seeded(seed):
        rest = few.posterior.sample()
        columns = []
        for block in blocks:
            parts = []
            for size in chunks(num_samples, rest.numel()):
                z = rest.repeat(size, 1, 1)
                z[..., block] = q.sample((size,))[..., block]
                guide = q.log_prob(z)[..., block].sum(-1)
                model = log_density(few.method.model, arguments, {"z": z})
                parts.append(model.double() - guide.double())
            columns.append(pareto_k(torch.cat(parts)))
    names = tuple(f"z[{b.start}:{b.stop}]" for b in blocks)
    return BlockImportance(names, torch.stack(columns, -1), bool(pairs.joint))


def _show(figures: Figures, arrays: Arrays) -> Shown:
    medians = [np.inf if k is None else k for k in figures["pareto_k_median"]]
    worst = int(np.argmax(medians))
    found = sum(k > RELIABLE_K for k in medians)
    plot = Histogram(
        "k-hat of blocks", "A value is a block of features of a datum.", "k-hat of a block",
        arrays["pareto_k"], mark=(RELIABLE_K, "0.7"),
    )  # fmt: skip
    rows = [
        ("blocks with a median k-hat above 0.7", f"{found} of {len(medians)}"),
        ("worst block, its median k-hat", f"{figures['blocks'][worst]}, {medians[worst]:.2f}"),
    ]
    return Shown(rows, [plot])


CHECK = Check(
    "Which features does the guide have wrong?",
    "k-hat of a few features at a time, the others held at a draw of the guide. It shows where the "
    "guide is wrong if k-hat of all features together is large.",
    lambda data: block_importance(data.heldout, seed=data.seed),
    _show,
)
