"""Words that select what is measured: known before anything is imported that measures it."""

from typing import Literal, get_args

Features = Literal["encoder", "batch-norm", "whitened", "pixels"]
"""The encoder's output, that after the batch norm of the embedding, that after whitening by what
differs between views of an image, or the raw pixels."""

Protocol = Literal["knn-v1", "linear-v1", "linear-sgd-v1", "few-label-v1", "bayes-heads-v1"]
"""Protocols of :mod:`vje_pyro.evaluation`."""

DEFAULT_PROTOCOLS: tuple[Protocol, ...] = ("knn-v1", "linear-v1", "few-label-v1")

Check = Literal[
    "importance", "blocks", "latent", "amortisation", "posterior_predictive", "prior_predictive",
    "features", "prior_features", "temperature", "sbc_guide", "nuts", "c2st", "comparison",
    "sbc_nuts",
]  # fmt: skip
"""Checks of a diagnosis."""

CHECKS: tuple[Check, ...] = get_args(Check)

SLOW_CHECKS: tuple[Check, ...] = ("amortisation", "nuts", "c2st", "comparison", "sbc_nuts")
"""Checks that take minutes."""
