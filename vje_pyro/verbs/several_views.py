"""What a posterior gains from more views of an image: the part of ``vje uncertainty`` on views."""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vje_pyro.diagnostics import FurtherView, Replicates, expected_coverage, predictive_check
from vje_pyro.diagnostics.contraction import contraction_figures
from vje_pyro.diagnostics.uncertainty_protocol import r_auroc_figures
from vje_pyro.embedding import BATCH_SIZE, embed_views
from vje_pyro.evaluation import Figure
from vje_pyro.inference import EmbeddingModel
from vje_pyro.method import require
from vje_pyro.run import Representation
from vje_pyro.scores import aurc_figure

VIEWS = (1, 2, 4, 8)
"""Numbers of views that a posterior sees; one more is predicted."""

COVERAGE = (0.5, 0.8, 0.95)
"""Nominal levels of the intervals of angle and radius."""

Errors = Mapping[str, tuple[NDArray[np.intp], NDArray[np.bool_]]]
"""By classifier: which of the images have a label that counts, and whether each was wrong."""

NEIGHBOUR = "neighbour"
"""The classifier that R-AUROC is about."""


def view_figures(
    run: Representation, images: Tensor, errors: Errors, seed: int
) -> dict[str, Figure]:
    """``views-K_WHAT`` of K random views of each image, for each of :data:`VIEWS`.

    ``entropy``, ``variance`` and ``predicted-variance``
    (:func:`~vje_pyro.diagnostics.contraction.contraction_figures`); ``aurc_CLASSIFIER``, but
    ``r-auroc`` for the errors of the nearest neighbour; ``angle-50`` and so on: how often the
    central interval of the predicted angle, or radius, of one further view holds it.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        images: uint8, ``(N, C, H, W)``.
        errors: Of these images.
        seed: Of views and draws.

    Raises:
        VJEError: If the method has no posterior of several views.
        ValueError: If guide or prior are not diagonal normal.
    """
    method = require(run.method, EmbeddingModel)
    batches, make_views = images.split(BATCH_SIZE), run.views.to(run.device)
    embeddings = embed_views(method, method.encode, batches, make_views, max(VIEWS) + 1, seed)
    method = copy.deepcopy(method).cpu()
    place = torch.arange(len(images))
    seen = {k: FurtherView(method, embeddings[:k], embeddings[-1], place) for k in VIEWS}
    scales = {k: view.posterior.stddev.numpy() for k, view in seen.items()}
    with torch.no_grad():
        each = method.infer(embeddings[:-1].flatten(0, 1)).posterior.stddev
    prior = method.prior_distribution().stddev.numpy()
    figures = contraction_figures(scales, each.view_as(embeddings[:-1]).numpy(), prior)
    for k, view in seen.items():
        check = predictive_check(view, seed=seed)
        found = _error_figures(np.log(scales[k].astype(np.float64)).mean(1), errors)
        found |= _coverage("angle", check.angle)
        found |= {} if check.radius is None else _coverage("radius", check.radius)
        figures |= {f"views-{k}_{name}": figure for name, figure in found.items()}
    return figures


def _error_figures(uncertainty: NDArray[np.float64], errors: Errors) -> dict[str, Figure]:
    figures = {}
    for classifier, (rows, wrong) in errors.items():
        of_these = uncertainty[rows]
        if classifier != NEIGHBOUR:
            figures[f"aurc_{classifier}"] = aurc_figure(wrong, of_these)
        elif wrong.any() and not wrong.all():
            (figures["r-auroc"],) = r_auroc_figures({"posterior": of_these}, wrong).values()
    return figures


def _coverage(quantity: str, predicted: Replicates) -> dict[str, Figure]:
    coverage = expected_coverage(predicted.pit, predicted.images, COVERAGE)
    return {f"{quantity}-{100 * level:g}": Figure(**coverage.at(level)) for level in COVERAGE}
