"""Which unsupervised outlier score to recommend: chosen on training images alone.

The training split is cut in two halves. Detectors are fitted on the first; inliers and
pseudo-outliers are made from images of the second, so that no other data set and no test image has
a say:

- *a class left out* (ten tasks on CIFAR-10): detectors are fitted without a class, whose images
  then are the outliers. The encoder has seen the class, without its label.
- *images spoiled* (four tasks): :mod:`vje_pyro.evaluation.pseudo_outliers`.

A score's merit is the mean of its two mean AUROCs.
"""

from functools import partial

import numpy as np
import torch

from vje_pyro.data import ImageArray
from vje_pyro.errors import DataError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.pseudo_outliers import SPOILED, spoiled
from vje_pyro.evaluation.scorer import Scorer
from vje_pyro.run import Representation
from vje_pyro.scores import OutlierScores, detection_metrics

NUM_VIEWS, NUM_IMAGES, SEED = 2, 500, 0


def outlier_choice(run: Representation, num_images: int = NUM_IMAGES) -> Result:
    """AUROC of every score on every task, as figures ``TASK_SCORE``.

    Raises:
        DataError: The images are not held in memory.
    """
    train = run.source.split("train")
    if not isinstance(train, ImageArray):
        raise DataError("pseudo-outliers are made of images that are held in memory.")
    order = np.random.default_rng(SEED).permutation(len(train))
    half = len(train) // 2
    fitted_on = train.subset(torch.from_numpy(order[:half]))
    judged = train.subset(torch.from_numpy(order[half : half + num_images]))
    make = partial(Scorer, run.method, normalize=run.normalize, make_views=run.views,
                   num_views=NUM_VIEWS, labelled=False)  # fmt: skip
    score = make(fitted_on)
    inliers = score(judged)
    tasks = {}
    for name in SPOILED:
        images = spoiled(judged.images, name)
        tasks[name] = inliers, score(ImageArray(images, judged.labels))
    for label in judged.labels.unique().tolist():
        scores = make(fitted_on.subset(torch.nonzero(fitted_on.labels != label)[:, 0]))(judged)
        of_class = judged.labels.numpy() == label
        kept, left_out = ({k: v[at] for k, v in scores.items()} for at in (~of_class, of_class))
        tasks[f"class_{label}"] = kept, left_out
    figures = {
        f"{task}_{name}": Figure.point(value, len(judged))
        for task, (kept, outliers) in tasks.items()
        for name, value in _aurocs(kept, outliers).items()
    }
    return Result(
        "outlier-choice-v1", {"name": run.source.name}, type(run.method).__name__, "encoder",
        figures, run.info["seed"], {"images": num_images, "views": NUM_VIEWS}, run.config,
    )  # fmt: skip


def _aurocs(inliers: OutlierScores, outliers: OutlierScores) -> dict[str, float]:
    return {k: float(detection_metrics(inliers[k], outliers[k])["auroc"]) for k in inliers}


def merits(result: Result) -> dict[str, dict[str, float]]:
    """Of every score the mean over spoiled images, over classes, and over these two."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, figure in result.figures.items():
        task, score = name.removeprefix("class_").split("_", 1)
        kind = "spoiled" if task in SPOILED else "class_left_out"
        found.setdefault(score, {}).setdefault(kind, []).append(figure.value)
    table = {s: {k: float(np.mean(v)) for k, v in kinds.items()} for s, kinds in found.items()}
    return {s: row | {"merit": sum(row.values()) / 2} for s, row in table.items()}
