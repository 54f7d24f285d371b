"""Distance of the aggregate of embeddings from the standard normal prior: a regulariser."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vje_pyro.checking import check_values
from vje_pyro.inference._global_batch import global_mean, random_directions, world_size
from vje_pyro.ranges import NonNegativeFloat, Particles


class SlicedEppsPulley(nn.Module):
    r"""Sliced Epps–Pulley statistic of a sample against N(0, I), times a weight.

    For each of many random directions a, drawn anew in every call, with :math:`\phi_N(t)` the
    empirical characteristic function of the projections :math:`a\cdot s_n`,

    .. math:: T = N \int |\phi_N(t) - e^{-t^2/2}|^2\, e^{-t^2/2}\, dt

    by the trapezoidal rule on [−5, 5], averaged over directions. A sample from N(0, I) gives
    :math:`\sqrt{2\pi}(1 - 1/\sqrt 3) \approx 1.06` in expectation, whatever N.

    A regulariser beside the bound, not part of it (``docs/explanation/aggregate.md``): it pulls the
    embeddings of the batch of all processes, as one distribution, to the prior of z.

    Source: SIGReg of Balestriero & LeCun, "LeJEPA" (arXiv 2511.08544); the statistic is Epps &
    Pulley (1983).

    Args:
        weight: Factor in the loss, non-negative.
        num_directions: Random directions.
        num_points: Nodes of the trapezoidal rule.

    Raises:
        ValueError: If ``weight`` is negative, or a count is below one (two for ``num_points``).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> statistic = SlicedEppsPulley(weight=1.0)
        >>> near, far = statistic(torch.randn(500, 8)), statistic(5 + torch.randn(500, 8))
        >>> bool(near < 2 < far)
        True
    """

    nodes: Tensor
    rule: Tensor

    def __init__(
        self,
        weight: NonNegativeFloat = 1e-3,
        num_directions: Particles = 256,
        num_points: Annotated[Particles, Ge(2)] = 17,
    ) -> None:
        super().__init__()
        check_values(SlicedEppsPulley.__init__, locals())
        self.weight = weight
        self.num_directions = num_directions
        # The integrand is even and vanishes at zero: the nodes above zero tell all.
        nodes = torch.linspace(-5, 5, num_points)[(num_points + 1) // 2 :]
        rule = torch.full_like(nodes, 2 * 10 / (num_points - 1))
        rule[-1] /= 2
        self.register_buffer("nodes", nodes, persistent=False)
        self.register_buffer("rule", rule * torch.exp(-nodes.square() / 2), persistent=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Weight times the statistic, a scalar, of embeddings ``(N, D)`` of each process."""
        directions = random_directions(embeddings, self.num_directions)
        prior = torch.exp(-self.nodes[:, None].square() / 2)
        waves = _MeanWaves.apply(embeddings @ directions, self.nodes)
        real, imaginary = global_mean(waves).unbind()
        distance = (real - prior).square() + imaginary.square()
        statistic = (self.rule @ distance).mean()
        return self.weight * world_size() * len(embeddings) * statistic


class _MeanWaves(torch.autograd.Function):
    """Mean cosine and sine ``(2, nodes, directions)`` of projections ``(N, directions)`` by nodes.

    Each is the other's derivative, kept for the backward pass, which sums over nodes in place.
    """

    @staticmethod
    def forward(ctx: Any, projections: Tensor, nodes: Tensor) -> Tensor:
        phase = nodes[:, None, None] * projections  # nodes in front: contiguous sums
        cosine, sine = phase.cos(), phase.sin_()
        ctx.save_for_backward(cosine, sine, nodes)
        return torch.stack([cosine.mean(1), sine.mean(1)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        cosine, sine, nodes = ctx.saved_tensors
        of_cosine, of_sine = gradient * nodes[:, None] / cosine.shape[1]
        total = torch.zeros_like(cosine[0])
        for node in range(len(nodes)):
            total.addcmul_(cosine[node], of_sine[node])
            total.addcmul_(sine[node], of_cosine[node], value=-1)
        return total, None
