"""The predictive likelihood of observed sites under the guide."""

import math
from collections.abc import Callable
from typing import Any

import torch

from vje_pyro.inference.symmetric_elbo import SymmetricELBO


class PredictiveLikelihood(SymmetricELBO):
    r"""Log of the particles' mean likelihood, in place of the mean of their log-likelihoods.

    .. math:: \log \frac1K \sum_k p(x_n \mid z_k) - \beta\,KL(q(z_n)\,\|\,p(z_n)), \quad z_k \sim q

    Arguments, errors and terms are those of :class:`SymmetricELBO`; the term ``predictive`` is what
    the log of the mean adds to the mean of the logs, at least 0.

    Source: Burda et al. (arXiv 1509.00519), equation 8, with the guide as the prior of z.
    """

    def terms(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> dict:
        """Terms of every datum, in nats, ``(N,)`` each."""
        of_particles = self.particle_terms(model, guide, *args, **kwargs)
        terms = {name: value.mean(0) for name, value in of_particles.items()}
        joint = torch.stack([v for name, v in of_particles.items() if name != "kl"]).sum(0)
        terms["predictive"] = joint.logsumexp(0) - math.log(len(joint)) - joint.mean(0)
        return terms
