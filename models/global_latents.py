"""Global latents of a model: parameters of its laws that are inferred, one for all data."""

import math
from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor, nn


class GlobalLatents(nn.Module):
    r"""Positive parameters of the directional and the radial law, with log-normal priors.

    .. math::

        \log\theta_k \sim N(m_k, s_k^2), \qquad q(\log\theta_k) = N(\mu_k, \tau_k^2)

    Each argument is the prior's (m, s); None leaves that parameter to the law.

    Args:
        direction_df: Degrees of freedom of the direction.
        direction_scale: Factor on the scale that the guide shares with the direction.
        radius_df: Degrees of freedom of the radius.
        radius_scale: Scale of the radius, in units of the embedding's norm.

    Raises:
        ValueError: If a mean is not finite or a standard deviation not positive, or all are None.

    Source: this project.
    """

    prior_loc: Tensor
    prior_scale: Tensor

    def __init__(
        self,
        direction_df: Sequence[float] | None = None,
        direction_scale: Sequence[float] | None = None,
        radius_df: Sequence[float] | None = None,
        radius_scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        given = {
            ("direction", "df"): direction_df,
            ("direction", "scale"): direction_scale,
            ("radius", "df"): radius_df,
            ("radius", "scale"): radius_scale,
        }
        priors = {name: tuple(prior) for name, prior in given.items() if prior is not None}
        if not priors:
            raise ValueError("all global latents are None: give the prior of one, or latents=None.")
        for (law, parameter), prior in priors.items():
            if len(prior) != 2 or not math.isfinite(prior[0]) or not 0 < prior[1] < math.inf:
                raise ValueError(
                    f"the prior of log {law}_{parameter} must be a finite mean and a positive "
                    f"standard deviation, got {prior}."
                )
        self.names = tuple(priors)
        locs, scales = torch.tensor([*priors.values()], dtype=torch.float32).T
        self.register_buffer("prior_loc", locs.clone(), persistent=False)
        self.register_buffer("prior_scale", scales.clone(), persistent=False)
        self.loc = nn.Parameter(locs.clone())
        # A tenth of the prior's spread: the data soon say more than that.
        self.log_scale = nn.Parameter(scales.log() - math.log(10))

    def sample_prior(self) -> dict[str, dict[str, Tensor]]:
        """Sample the sites from the prior: parameters by law and name."""
        return self._sample(self.prior_loc, self.prior_scale)

    def sample_guide(self) -> dict[str, dict[str, Tensor]]:
        """Sample the sites from the guide: parameters by law and name."""
        return self._sample(self.loc, self.log_scale.exp())

    def _sample(self, loc: Tensor, scale: Tensor) -> dict[str, dict[str, Tensor]]:
        laws: dict[str, dict[str, Any]] = {"direction": {}, "radius": {}}
        for index, (law, parameter) in enumerate(self.names):
            log = pyro.sample(f"log_{law}_{parameter}", Normal(loc[index], scale[index]))
            laws[law][parameter] = log.exp()
        return laws
