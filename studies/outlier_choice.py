"""Which unsupervised outlier score to recommend: chosen on training images alone.

The training split is cut in two halves. Detectors are fitted on the first; inliers and
pseudo-outliers are made from images of the second, so that no other data set and no test image has
a say:

- *a class left out* (ten tasks on CIFAR-10): detectors are fitted without a class, whose images
  then are the outliers. The encoder has seen the class, without its label.
- *images spoiled* (four tasks): blurred to a smear, contrast almost gone (both simpler than any
  image), drowned in noise, and cut into 16 patches in random order.

A score's merit is the mean of its two mean AUROCs.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from vje_pyro.data import ImageArray
from vje_pyro.errors import DataError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.scorer import Scorer
from vje_pyro.run import Representation
from vje_pyro.scores import OutlierScores, detection_metrics

NUM_VIEWS, NUM_IMAGES, SEED = 2, 500, 0


def smeared(images: Tensor) -> Tensor:
    """Blurred with a fifth of the side."""
    reach = images.shape[-1] // 2
    return gaussian_blur(images.float(), [2 * reach + 1] * 2, [images.shape[-1] / 5] * 2)


def faded(images: Tensor) -> Tensor:
    """A tenth of the contrast."""
    values = images.float()
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (values - mean) / 10


def drowned(images: Tensor) -> Tensor:
    """Noise of half the range."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))
    return images.float() + 127.5 * noise


def shuffled(images: Tensor) -> Tensor:
    """Sixteen patches in an order of the image's own."""
    side = images.shape[-1] // 4
    patches = images.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)
    generator = torch.Generator().manual_seed(SEED)
    order = torch.rand(len(images), 16, generator=generator).argsort(1)
    patches = patches.gather(2, order[:, None, :, None, None].expand_as(patches))
    rows = patches.unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5)
    return rows.flatten(4, 5).flatten(2, 3).float()


SPOILED = {f.__name__: f for f in (smeared, faded, drowned, shuffled)}


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
    for name, spoil in SPOILED.items():
        images = spoil(judged.images).round().clamp(0, 255).to(torch.uint8)
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
