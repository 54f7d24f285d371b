"""Bayesian classifiers on points or posteriors, for a handful of labels."""

from vje_pyro.heads.gaussian import GaussianHead
from vje_pyro.heads.head import Head
from vje_pyro.heads.laplace import LaplaceHead
from vje_pyro.heads.normal_inverse_wishart import NormalInverseWishart, Statistics

__all__ = ["GaussianHead", "Head", "LaplaceHead", "NormalInverseWishart", "Statistics"]
