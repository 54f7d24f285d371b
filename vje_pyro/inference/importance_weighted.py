"""Bounds by the log of a mean over particles, datum by datum."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from vje_pyro.inference.symmetric_elbo import SymmetricELBO


class _LogMean(SymmetricELBO):
    """Takes the log of the mean of weights where the ELBO takes the mean of their logs."""

    gain: ClassVar[str]
    """Name of the term that the log of the mean adds to the mean of the logs, at least 0."""

    @abstractmethod
    def _log_weight(self, terms: dict[str, Tensor]) -> Tensor:
        """Log weights ``(K, N)`` from the terms of K particles."""

    def terms(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> dict:
        """Terms of every datum, in nats, ``(N,)`` each."""
        of_particles = self.particle_terms(model, guide, *args, **kwargs)
        terms = {name: value.mean(0) for name, value in of_particles.items()}
        log_weight = self._log_weight(of_particles)
        log_mean = log_weight.logsumexp(0) - math.log(len(log_weight))
        return terms | {self.gain: log_mean - log_weight.mean(0)}


class ImportanceWeightedELBO(_LogMean):
    r"""Log of the mean importance weight of K particles.

    .. math:: \log \frac1K \sum_k \frac{p(x_n, z_{nk})}{q(z_{nk})}, \quad z_{nk} \sim q

    It rises with K towards the log evidence. The term ``importance`` is what the log of the mean
    adds to the mean of the logs, at least 0. Errors are those of :class:`SymmetricELBO`; the KL is
    sampled. Pyro's ``RenyiELBO`` with ``alpha=0`` weights a particle by all data of a mini-batch at
    once.

    Source: Burda et al. (arXiv 1509.00519), equation 8.

    Args:
        num_particles: Draws K per datum.
    """

    gain = "importance"

    def __init__(self, num_particles: int = 8) -> None:
        super().__init__(1.0, num_particles, "sample")

    def _log_weight(self, terms: dict[str, Tensor]) -> Tensor:
        return self.per_datum(terms)


class PredictiveLikelihood(_LogMean):
    r"""Log of the particles' mean likelihood, in place of the mean of their log-likelihoods.

    .. math:: \log \frac1K \sum_k p(x_n \mid z_k) - \beta\,KL(q(z_n)\,\|\,p(z_n)), \quad z_k \sim q

    Arguments, errors and terms are those of :class:`SymmetricELBO`; the term ``predictive`` is what
    the log of the mean adds.

    Source: Burda et al. (arXiv 1509.00519), equation 8, with the guide as the prior of z.
    """

    gain = "predictive"

    def _log_weight(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack([v for name, v in terms.items() if name != "kl"]).sum(0)
