"""Words that select what is measured: known before anything is imported that measures it."""

from typing import Literal

Features = Literal["encoder", "batch-norm", "whitened", "pixels"]
"""The encoder's output, that after the batch norm of the embedding, that after whitening by what
differs between views of an image, or the raw pixels."""

Protocol = Literal["knn-v1", "linear-v1", "linear-sgd-v1", "few-label-v1", "bayes-heads-v1"]
"""Protocols of :mod:`vje_pyro.evaluation`."""

DEFAULT_PROTOCOLS: tuple[Protocol, ...] = ("knn-v1", "linear-v1", "few-label-v1")

CHECKS: dict[str, str] = {
    "importance": "vje_pyro.diagnostics.importance:CHECK",
    "blocks": "vje_pyro.diagnostics.blocks:CHECK",
    "latent": "vje_pyro.diagnostics.latent:CHECK",
    "amortisation": "vje_pyro.diagnostics.amortisation:CHECK",
    "posterior_predictive": "vje_pyro.diagnostics.predictive:POSTERIOR",
    "prior_predictive": "vje_pyro.diagnostics.predictive:PRIOR",
    "features": "vje_pyro.diagnostics.feature_check:POSTERIOR",
    "prior_features": "vje_pyro.diagnostics.feature_check:PRIOR",
    "temperature": "vje_pyro.diagnostics.recalibration:CHECK",
    "sbc_guide": "vje_pyro.diagnostics.sbc:GUIDE",
    "nuts": "vje_pyro.diagnostics.nuts:CHECK",
    "c2st": "vje_pyro.diagnostics.c2st:CHECK",
    "comparison": "vje_pyro.diagnostics.likelihood_comparison:CHECK",
    "sbc_nuts": "vje_pyro.diagnostics.sbc:NUTS",
}
"""Checks of a diagnosis in the order in which they run and are shown, and where each one is
(:class:`vje_pyro.diagnostics.Check`): a new check is one file and one row here."""
