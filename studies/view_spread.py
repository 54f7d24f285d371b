"""Does the spread of an image's views tell errors? The width that a posterior could have, measured.

No model is asked: eight random views of an image are embedded, and its uncertainty is
:math:`1 - \\lVert \\tfrac1V \\sum_v u_v \\rVert`, one less the mean resultant length of their
directions. If this does not tell which images a classifier gets wrong, a posterior that is as wide
as views differ cannot either. Images are those of the validation split.
"""

import numpy as np
import torch
from torch.nn.functional import normalize

from vje_pyro.data import select_images
from vje_pyro.evaluation import Figure, Result, extract, knn_predict
from vje_pyro.evaluation.detectors import KNNDistance
from vje_pyro.evaluation.knn import default_k
from vje_pyro.evaluation.linear import linear_predict
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.run import Representation
from vje_pyro.scores import detection_figures

NUM_VIEWS, NUM_IMAGES, SEED = 8, 2000, 0


def view_spread(run: Representation, num_images: int = NUM_IMAGES) -> Result:
    """AUROC of uncertainties for the errors of classifiers, ``auroc_UNCERTAINTY_CLASSIFIER``.

    The uncertainties are ``views``, ``knn`` (distance to the training images) and, of a method that
    has one, ``posterior``; the classifiers are those of knn-v1 and linear-v1.

    Raises:
        DataError: If the run's data have no validation split.
    """
    validation = run.source.split("validation")
    order = np.random.default_rng(SEED).permutation(len(validation))[:num_images]
    chosen = torch.from_numpy(np.sort(order))
    images, kept = select_images(validation, chosen, run.source.channels, run.source.image_size)
    train = extract(run.method, run.source.split("train"), run.normalize, device=run.device)
    x = run.embed(images).cpu()
    labels = torch.as_tensor(validation.labels)[kept].numpy()
    views = normalize(run.embed_views(images, NUM_VIEWS, SEED), dim=-1)
    uncertainties = {
        "views": 1 - views.mean(0).norm(dim=-1).double().numpy(),
        "knn": KNNDistance(train.x)(x.numpy()),
    }
    if isinstance(run.method, ProbabilisticMethod):
        uncertainties["posterior"] = run.uncertainty(images).double().numpy()
    bank, classes = torch.from_numpy(train.x), torch.from_numpy(train.y)
    predicted = {
        "knn": knn_predict(bank, classes, x, default_k(len(train))).numpy(),
        "linear": linear_predict(train.x, train.y, x.numpy()),
    }
    figures: dict[str, Figure] = {}
    details = {}
    for classifier, y in predicted.items():
        wrong = y != labels
        right, false = ({n: v[at] for n, v in uncertainties.items()} for at in (~wrong, wrong))
        found = detection_figures(right, false)
        figures |= {f"auroc_{n}_{classifier}": found[f"auroc_{n}"] for n in uncertainties}
        details[f"error_{classifier}"] = float(wrong.mean())
    return Result(
        "view-spread-v1", {"name": f"{run.source.name}, validation split", "images": len(images)},
        type(run.method).__name__, "encoder", figures, run.info["seed"],
        {"views": NUM_VIEWS, "seed": SEED}, run.config, details,
    )  # fmt: skip
