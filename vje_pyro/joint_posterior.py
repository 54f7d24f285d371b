"""The joint posterior of a run: fitted to the embeddings of its training images' views."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vje_pyro.atomic import make_folder
from vje_pyro.diagnostics import expected_coverage
from vje_pyro.diagnostics.many_views import (
    further_view_check,
    importance_of_views,
    rank_p_values,
    simulated_ranks,
)
from vje_pyro.evaluation import Result
from vje_pyro.models import ManyViews
from vje_pyro.run import Representation
from vje_pyro.statistics import Figure, bootstrap, bootstrap_mean
from vje_pyro.training.checkpoint import Checkpoint, save_checkpoint

PROTOCOL = "many-views-v2"

NUM_LATENTS = 64
"""Canonical features that are modelled, where the embeddings have as many."""

VIEWS = (1, 2, 4, 8)
"""Numbers of views that a posterior sees in the checks; one more is predicted."""

COVERAGE = (0.5, 0.8, 0.95)

_VIEWS_TO_FIT = 16
_IMPORTANCE_DRAWS = 300
_IMPORTANCE_IMAGES = 100
_VARIANCE_IMAGES = 200
_RANK_IMAGES = 500


def fit_joint_posterior(
    run: Representation,
    num_images: int = 10_000,
    num_latents: int = NUM_LATENTS,
    seed: int = 0,
    **fit: Any,
) -> ManyViews:
    """Fit :class:`~vje_pyro.models.ManyViews` to a run's training images and store it in the run.

    The encoder does not change. The run may be that of any method. Labels are not used.

    Args:
        run: As :func:`vje_pyro.load` returns it. The file is
            ``RUN/checkpoints/joint_posterior.safetensors``.
        num_images: Largest number of training images; 16 random views of each are embedded.
        num_latents: Dimension of z, at most that of the embeddings.
        seed: Random seed of images, views and the fit.
        fit: Other arguments of :meth:`ManyViews.fit <vje_pyro.models.ManyViews.fit>`.

    Raises:
        DataError: If the run's data cannot be read.
        ValueError: If the embeddings vary in fewer directions than ``num_latents``.
        WriteError: If the file cannot be written.
    """
    embeddings = run.embed_split("train", num_images, _VIEWS_TO_FIT, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ManyViews(embeddings.shape[-1], min(num_latents, embeddings.shape[-1]))
    model.fit(embeddings, seed=seed, **fit)
    path = run.directory.joint_posterior
    make_folder(path.parent)
    save_checkpoint(Checkpoint(step=0, epoch=0, model=model.state_dict()), path)
    run.__dict__.pop("joint_posterior_model", None)  # read it anew
    return model


def check_joint_posterior(
    run: Representation, split: str = "test", num_images: int = 1000, seed: int = 0
) -> Result:
    """Protocol many-views-v2: is the joint posterior right on images that it was not fitted to?

    Figures, for K of :data:`VIEWS`: ``views-K_angle-50`` and so on, how often the central interval
    of the predicted angle, or radius, of one further view holds it; ``views-K_variance``, the mean
    posterior variance, and ``views-K_simulated-variance``, the same of data from the model;
    ``views-K_k-hat``, the median of :func:`~vje_pyro.diagnostics.many_views.importance_of_views`,
    and ``views-K_elbo-gap``, nats from the posterior's bound to the importance-weighted one of 300
    draws; ``views-K_rank-alarms``, the share of z's features whose ranks in simulation-based
    calibration have a p-value below 1 % over the number of features (Bonferroni).

    Raises:
        CheckpointError: If the run has no joint posterior.
        DataError: If the split cannot be read.
    """
    start, model = time.perf_counter(), run.joint_posterior_model
    views = model.coordinates(run.embed_split(split, num_images, max(VIEWS) + 1, seed))
    figures: dict[str, Figure] = {}
    for k in VIEWS:
        found = _coverage_figures(model, views[:k], views[-1], seed)
        found |= _posterior_figures(model, views[:k], seed)
        figures |= {f"views-{k}_{name}": figure for name, figure in found.items()}
    return Result(
        protocol=PROTOCOL,
        dataset={"name": run.source.name, "split": split, "images": views.shape[1]},
        method=type(run.method).__name__,
        features="encoder",
        figures=figures,
        seed=run.info["seed"],
        settings={"num_latents": model.num_latents, "views": list(VIEWS)}
        | {"coverage": list(COVERAGE), "seed": seed},
        config=run.config,
        details={"df": model.log_df.exp().item()}
        | {"correlation": [round(rho, 4) for rho in model.correlation.tolist()]},
        device=run.device,
        wall_time_s=time.perf_counter() - start,
    )


def _coverage_figures(
    model: ManyViews, seen: Tensor, target: Tensor, seed: int
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    predictions = further_view_check(model, seen, target, seed=seed)
    for name, predicted in zip(("angle", "radius"), predictions, strict=True):
        coverage = expected_coverage(predicted.pit, predicted.images, COVERAGE)
        figures |= {f"{name}-{100 * x:g}": Figure(**coverage.at(x)) for x in COVERAGE}
    return figures


@torch.no_grad()
def _posterior_figures(model: ManyViews, seen: Tensor, seed: int) -> dict[str, Figure]:
    k, few = len(seen), seen[:, :_VARIANCE_IMAGES]
    importance = importance_of_views(model, seen[:, :_IMPORTANCE_IMAGES], _IMPORTANCE_DRAWS, seed)
    gap = importance.bounds[max(importance.bounds)] - importance.bounds[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        simulated, _ = model.simulate(k, few.shape[1])
    ranks = simulated_ranks(model, k, _RANK_IMAGES, seed)
    alarms = rank_p_values(ranks) < 0.01 / model.num_latents
    return {
        "variance": bootstrap_mean(model.posterior(few, seed=seed).variance.mean(-1)),
        "simulated-variance": bootstrap_mean(
            model.posterior(simulated, seed=seed).variance.mean(-1)
        ),
        "k-hat": _median(importance.pareto_k),
        "elbo-gap": bootstrap_mean(gap),
        "rank-alarms": bootstrap_mean(alarms, "features of z"),
    }


def _median(values: Tensor) -> Figure:
    sample = values.double().numpy()
    (figure,) = bootstrap(lambda p: np.median(sample[p], axis=-1), len(sample), over="images")
    return figure
