"""Which unsupervised outlier score to recommend: chosen on training images alone.

    python benchmarks/ood_choice.py RUN [RUN …] [--out docs/results/ood/choice]

The training split is cut in two halves. Detectors are fitted on the first; inliers and
pseudo-outliers are made from images of the second, so that no other data set and no test image has
a say:

- *a class left out* (ten tasks on CIFAR-10): detectors are fitted without a class, whose images
  then are the outliers. The encoder has seen the class, without its label.
- *images spoiled* (four tasks): blurred to a smear, contrast almost gone (both simpler than any
  image), drowned in noise, and cut into 16 patches in random order.

A score's merit is the mean of its two mean AUROCs. One JSON a run.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from vje_pyro import load
from vje_pyro.atomic import write_atomic
from vje_pyro.data import ImageArray
from vje_pyro.evaluation.detection import OutlierScores, detection_metrics
from vje_pyro.evaluation.scorer import Scorer
from vje_pyro.provenance import git_commit
from vje_pyro.run import Representation

ROOT = Path(__file__).parents[1]
NUM_VIEWS, SEED = 2, 0


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


def choose(run: Representation, num_images: int) -> dict[str, dict[str, float]]:
    """AUROC of every score on every task."""
    train = run.source.split("train")
    order = np.random.default_rng(SEED).permutation(len(train))
    half = len(train) // 2
    fitted_on = train.subset(torch.from_numpy(order[:half]))
    judged = train.subset(torch.from_numpy(order[half : half + num_images]))

    def scorer(split: ImageArray) -> Scorer:
        return Scorer(run.method, split, run.normalize, run.views, NUM_VIEWS, labelled=False)

    def auroc(inliers: OutlierScores, outliers: OutlierScores) -> dict[str, float]:
        return {k: float(detection_metrics(inliers[k], outliers[k])["auroc"]) for k in inliers}

    score = scorer(fitted_on)
    inliers = score(judged)
    tasks = {}
    for name, spoil in SPOILED.items():
        images = spoil(judged.images).round().clamp(0, 255).to(torch.uint8)
        tasks[name] = auroc(inliers, score(ImageArray(images, judged.labels)))
        print(name, flush=True)
    for label in judged.labels.unique().tolist():
        scores = scorer(fitted_on.subset(torch.nonzero(fitted_on.labels != label)[:, 0]))(judged)
        of_class = judged.labels.numpy() == label
        parts = ({k: v[where] for k, v in scores.items()} for where in (~of_class, of_class))
        tasks[f"class {label}"] = auroc(*parts)
        print(f"class {label}", flush=True)
    return tasks


def merits(tasks: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of every score the mean over spoiled images, over classes, and over these two."""
    table = {}
    for score in next(iter(tasks.values())):
        spoiled = float(np.mean([tasks[name][score] for name in SPOILED]))
        classes = float(np.mean([t[score] for name, t in tasks.items() if name not in SPOILED]))
        table[score] = {
            "spoiled": spoiled,
            "class_left_out": classes,
            "merit": (spoiled + classes) / 2,
        }
    return dict(sorted(table.items(), key=lambda item: -item[1]["merit"]))


def main() -> None:
    """Parse the command line, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data-root")
    parser.add_argument("--images", type=int, default=500, help="images judged (default 500)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "ood" / "choice")
    options = parser.parse_args()
    for path in options.runs:
        run = load(path, data_root=options.data_root)
        tasks = choose(run, options.images)
        table = merits(tasks)
        aggregate = run.config["method"].get("aggregate")
        content = {
            "method": type(run.method).__name__,
            "aggregate": aggregate and aggregate["_target_"],
            "dataset": run.source.name,
            "seed": run.info["seed"],
            "images": options.images,
            "views": NUM_VIEWS,
            "commit": git_commit(),
            "merits": table,
            "auroc": tasks,
        }
        options.out.mkdir(parents=True, exist_ok=True)
        name = f"{Path(path).parent.name}-seed{run.info['seed']}.json"
        write_atomic(options.out / name, json.dumps(content, indent=2) + "\n")
        for score, row in table.items():
            print(f"{score:28}" + "".join(f"{name} {value:.3f}  " for name, value in row.items()))


if __name__ == "__main__":
    main()
