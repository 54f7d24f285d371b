r"""Is every feature predicted by its law? PIT of features, and of blocks of features.

Every feature of the target's embedding :math:`s_j = r_j u_j` is ranked among its predictive draws,
and every block of features by its distance

.. math:: Q_b = \sum_{d \in b} \big((s_{jd} - m_d) / \sigma_d\big)^2

with mean m and standard deviation σ of the draws and the observation together, in which all are
alike: under the true model every rank is uniform exactly, however the features depend on each
other. Features find what few of them have wrong, blocks what all have wrong a little.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from vje_pyro.diagnostics._programs import seeded
from vje_pyro.diagnostics._ranks import discoveries, rank_histogram, uniform_p_values
from vje_pyro.diagnostics.check import Arrays, Check, Data, Figures, Shown, Verdict
from vje_pyro.diagnostics.pairs import Pairs
from vje_pyro.diagnostics.plots import Ranks
from vje_pyro.diagnostics.predictive import predictive_sites
from vje_pyro.errors import VJEError

_LEVEL = 0.01
_ADVICE = {
    "posterior": "Guide or likelihood do not fit these data: see blocks for the guide, comparison "
    "for the likelihood, or infer its scale (latents=).",
    "prior": "The data that the model generates differ from these: see aggregate_kl of latent. "
    "Choose a more flexible prior (prior=).",
}
_MAX_BINS = 10
_MIN_IMAGES = 10
# With fewer, small p-values of the chi-square test are too small.
_PER_BIN = 10
# Elements of the draws of a group of images.
_GROUP_ELEMENTS = 2**24


@dataclass(frozen=True)
class FeatureCheck:
    """Where features and blocks of features of every target lie in their predictions.

    Args:
        kind: ``"posterior"`` or ``"prior"``.
        quantities: Names of the Q quantities: ``s[0]`` …, then blocks, ``s[0:16]`` …, and
            ``s[0:D]``, all features together.
        pit: Of each order of the views, ``(2, N, Q)`` in [0, 1]; of blocks that of their distance.
        num_draws: Predictive draws of each datum.
    """

    kind: str
    quantities: tuple[str, ...]
    pit: Tensor
    num_draws: int

    @cached_property
    def histogram(self) -> Tensor:
        """Counts of equal bins of the PIT, ``(2, bins, Q)``: 10, fewer below 100 images."""
        num_bins = max(2, min(_MAX_BINS, self.pit.shape[1] // _PER_BIN))
        return torch.stack([rank_histogram(order, num_bins) for order in self.pit])

    @property
    def p_values(self) -> Tensor:
        """Of a test of uniformity of each quantity and order of the views, ``(2, Q)``.

        The data of an image depend on each other, so each order is tested by itself.
        """
        return torch.stack([uniform_p_values(order) for order in self.histogram])

    @property
    def found(self) -> Tensor:
        """Quantities that are wrong in an order of the views, bool ``(Q,)``: FDR of 1 %."""
        return discoveries(self.p_values.flatten(), _LEVEL).view(2, -1).any(0)

    @property
    def verdict(self) -> Verdict:
        """Whether any quantity is found wrong, at 1 %."""
        names = [name for name, wrong in zip(self.quantities, self.found, strict=True) if wrong]
        features = sum(":" not in name for name in names)
        total = sum(":" not in name for name in self.quantities)
        if not names:
            return Verdict(False, f"all {total} features lie where the {self.kind} predicts them.")
        middle = self._in_the_middle()
        shape = "too wide" if middle > 0.55 else "too narrow" if middle < 0.45 else "of wrong shape"
        return Verdict(
            True,
            f"{features} of {total} features and {len(names) - features} blocks of them are not "
            f"where the {self.kind} predicts them; predictions are {shape}. {_ADVICE[self.kind]}",
        )

    def _in_the_middle(self) -> float:
        """Share of the features' PIT in the middle half: above ½ predictions are too wide."""
        features = [":" not in name for name in self.quantities]
        pit = self.pit[..., torch.tensor(features)]
        return ((pit - 0.5).abs() < 0.25).double().mean().item()

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        return {
            "kind": self.kind,
            "num_images": self.pit.shape[1],
            "num_draws": self.num_draws,
            "quantities": list(self.quantities),
            "histogram": self.histogram.sum(0).T.tolist(),
            "p_values": self.p_values.amin(0).tolist(),
            "found": self.found.tolist(),
            "correction": "Benjamini-Hochberg",
            "level": _LEVEL,
        }


@torch.no_grad()
def feature_check(
    pairs: Pairs,
    num_samples: int = 200,
    seed: int = 0,
    kind: str = "posterior",
    block_size: int = 16,
) -> FeatureCheck:
    """Rank features of the targets among their predictive draws, as this module's text says.

    One view predicts the other under every objective.

    Args:
        pairs: The data, of 10 different images or more.
        num_samples: Draws S of each datum.
        seed: Of the draws and of the ranks.
        kind: Whether z is drawn from the ``"posterior"`` or from the ``"prior"``.
        block_size: Features of a block.

    Raises:
        ValueError: If a number is not positive or ``kind`` unknown.
        VJEError: If there are fewer than 10 images, or the model has no site ``direction``.

    Source: PIT, Dawid (JRSS A 1984), randomised as in Czado, Gneiting & Held (Biometrics 2009);
    the distances and the correction are this project's.
    """
    if kind not in ("posterior", "prior"):
        raise ValueError(f"kind must be 'posterior' or 'prior', got {kind!r}.")
    if num_samples < 2 or block_size < 1:
        raise ValueError(
            f"num_samples must be at least 2 and block_size at least 1, got {num_samples} and "
            f"{block_size}."
        )
    if len(pairs) < _MIN_IMAGES:
        raise VJEError(f"a test of ranks needs {_MIN_IMAGES} images or more, got {len(pairs)}.")
    pairs = pairs.one_view()
    size = max(1, _GROUP_ELEMENTS // (num_samples * 2 * pairs.num_features))
    with seeded(seed):
        groups = [
            _positions(pairs.subset(images), num_samples, kind, block_size).unflatten(0, (2, -1))
            for images in torch.arange(len(pairs)).split(size)
        ]
    names = [f"s[{d}]" for d in range(pairs.num_features)]
    names += [f"s[{b.start}:{b.stop}]" for b in blocks_of(pairs.num_features, block_size)]
    return FeatureCheck(kind, tuple(names), torch.cat(groups, 1), num_samples)


def blocks_of(num_features: int, size: int) -> list[slice]:
    """Blocks of features, and all of them if that is another one.

    Example:
        >>> blocks_of(4, 3)
        [slice(0, 3, None), slice(3, 4, None), slice(0, 4, None)]
    """
    starts = range(0, num_features, size)
    blocks = [slice(start, min(start + size, num_features)) for start in starts]
    return blocks if len(blocks) == 1 else [*blocks, slice(0, num_features)]


def _positions(pairs: Pairs, num_samples: int, kind: str, block_size: int) -> Tensor:
    """PIT of features and blocks, ``(2N, Q)``."""
    sites = predictive_sites(pairs, num_samples, kind)
    observed = poutine.trace(pairs.method.model).get_trace(*pairs.arguments()).nodes
    target = _embedding({name: observed[name]["value"] for name in sites})
    values = torch.cat([target[None], _embedding(sites)])
    square = ((values - values.mean(0)) / values.std(0)).square()
    blocks = blocks_of(pairs.num_features, block_size)
    distances = torch.stack([square[..., b].sum(-1) for b in blocks], -1)
    values = torch.cat([values, distances], -1)
    below = (values[1:] < values[0]).sum(0)
    uniform = torch.rand(below.shape, dtype=torch.float64)
    return (below + uniform) / (num_samples + 1)


def _embedding(sites: dict[str, Tensor]) -> Tensor:
    """What the model explains of an embedding: all of it, or its direction."""
    direction = sites["direction"]
    return direction * sites["radius"][..., None] if "radius" in sites else direction


def _show(figures: Figures, arrays: Arrays) -> Shown:
    names = figures["quantities"]
    counts = dict(zip(names, map(np.array, figures["histogram"]), strict=True))
    features = [name for name in names if ":" not in name]
    wrong = {name for name, found in zip(names, figures["found"], strict=True) if found}
    in_features, of_blocks = len(wrong.intersection(features)), len(names) - len(features)
    rows = [
        ("predictive draws", f"{figures['num_draws']} of the {figures['kind']}"),
        (
            "features not as predicted, false discovery rate 1 %",
            f"{in_features} of {len(features)}",
        ),
        ("blocks not as predicted", f"{len(wrong) - in_features} of {of_blocks}"),
    ]
    pooled = np.sum([counts[name] for name in features], 0)
    return Shown(rows, [
        Ranks("PIT of all features", "Pooled, for the shape only: features depend on each other, "
              "so the band is too narrow. A full middle means predictions wider than the data, "
              "full ends narrower ones.", "PIT of a feature", pooled),
        Ranks(f"PIT of the distance of {names[-1]}", "To the left, all features lie nearer "
              "to their predictions than these say, to the right farther.",
              "PIT of the distance", counts[names[-1]]),
    ])  # fmt: skip


def _measure(data: Data, kind: str) -> FeatureCheck:
    return feature_check(data.heldout, seed=data.seed, kind=kind)


POSTERIOR = Check(
    "Is every feature predicted by its law?",
    "Every feature of the other view's embedding, and the distance of every block of features, "
    "ranked among draws of the posterior predictive. Under a true model the ranks are uniform.",
    partial(_measure, kind="posterior"),
    _show,
)

PRIOR = Check(
    "Does the prior generate such features?",
    "The same with z drawn from the prior.",
    partial(_measure, kind="prior"),
    _show,
)
