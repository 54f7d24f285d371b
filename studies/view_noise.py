"""Is the noise of an image's views what the joint model says? Directions in which views differ.

The model gives all images one covariance of the noise, up to the weight of a view. Here sixteen
views of an image are brought to one length, less their mean, each feature in units of its standard
deviation over all images, and each view at norm one, which takes its weight away. The noise of an
image then has the *effective dimension* :math:`(\\sum_i \\lambda_i)^2 / \\sum_i \\lambda_i^2`, with
λ the eigenvalues of its second moments. Data that the model generates say what to expect.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.evaluation import Result
from vje_pyro.run import Representation
from vje_pyro.statistics import Figure, bootstrap_mean

NUM_VIEWS, NUM_IMAGES, SEED = 16, 500, 0


def view_noise(run: Representation, num_images: int = NUM_IMAGES) -> Result:
    """``images_WHAT`` of test images, and ``model_WHAT`` of data that the joint model generates.

    WHAT is ``dimension``, the effective dimension, or ``size``, the variance of the log norm of a
    view's noise within an image.

    Raises:
        CheckpointError: If the run has no joint posterior.
        DataError: If the split cannot be read.
    """
    model = run.joint_posterior_model
    views = model.coordinates(run.embed_split("test", num_images, NUM_VIEWS, SEED))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(SEED)
        simulated, _ = model.simulate(NUM_VIEWS, views.shape[1])
    figures = {
        f"{of}_{name}": figure
        for of, some in (("images", views), ("model", simulated))
        for name, figure in noise_figures(some).items()
    }
    return Result(
        "view-noise-v1", {"name": run.source.name, "split": "test", "images": views.shape[1]},
        type(run.method).__name__, "encoder", figures, run.info["seed"],
        {"views": NUM_VIEWS, "seed": SEED}, run.config,
    )  # fmt: skip


def noise_figures(views: Tensor) -> dict[str, Figure]:
    """``dimension`` and ``size`` of views ``(V, N, d)``, means over images."""
    directions = normalize(views, dim=-1)
    noise = directions - directions.mean(0)
    noise = noise / noise.square().mean((0, 1)).sqrt()
    size = noise.norm(dim=-1, keepdim=True)
    unit = (noise / size).transpose(0, 1)
    eigenvalues = torch.linalg.svdvals(unit).square()
    dimension = eigenvalues.sum(-1).square() / eigenvalues.square().sum(-1)
    return {
        "dimension": bootstrap_mean(dimension, "images"),
        "size": bootstrap_mean(size.squeeze(-1).log().var(0), "images"),
    }
