"""The importance-weighted bound of every datum."""

import math
from collections.abc import Callable
from typing import Any

from vje_pyro.inference.symmetric_elbo import SymmetricELBO


class ImportanceWeightedELBO(SymmetricELBO):
    r"""Log of the mean importance weight of K particles, datum by datum.

    .. math:: \log \frac1K \sum_k \frac{p(x_n, z_{nk})}{q(z_{nk})}, \quad z_{nk} \sim q

    It rises with K towards the log evidence, so the model is bent less towards posteriors that the
    guide can follow. The term ``importance`` is what the log of the mean adds to the mean of the
    logs, at least 0. Errors are those of :class:`SymmetricELBO`; the KL is sampled.

    Pyro's ``RenyiELBO`` with ``alpha=0`` weights a particle by all data of a mini-batch at once;
    here every datum weights its own.

    Source: Burda et al. (arXiv 1509.00519), equation 8.

    Args:
        num_particles: Draws K per datum.
    """

    def __init__(self, num_particles: int = 8) -> None:
        super().__init__(1.0, num_particles, "sample")

    def terms(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> dict:
        """Terms of every datum, in nats, ``(N,)`` each."""
        of_particles = self.particle_terms(model, guide, *args, **kwargs)
        terms = {name: value.mean(0) for name, value in of_particles.items()}
        log_weight = self.per_datum(of_particles)
        log_mean = log_weight.logsumexp(0) - math.log(len(log_weight))
        terms["importance"] = log_mean - log_weight.mean(0)
        return terms
