"""Priors of the latent z, one file each: modules that give a distribution of event shape (D,)."""

from vje_pyro.priors.mixture import MixturePrior
from vje_pyro.priors.normal import NormalPrior
from vje_pyro.priors.prior import Infer, Prior
from vje_pyro.priors.student_t import StudentTPrior
from vje_pyro.priors.vamp import VampPrior

__all__ = ["Infer", "MixturePrior", "NormalPrior", "Prior", "StudentTPrior", "VampPrior"]
