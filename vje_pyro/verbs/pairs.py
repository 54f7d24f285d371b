"""Pairs of views of a run's images."""

import numpy as np
import torch

from vje_pyro.data import select_images
from vje_pyro.diagnostics import Pairs, view_pairs
from vje_pyro.run import Representation


def split_pairs(
    run: Representation,
    split: str,
    num_images: int,
    seed: int,
    view_seed: int = 0,
    views_per_image: int = 1,
) -> Pairs:
    """Pairs of training views of randomly chosen images of a split, embedded.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        split: ``"test"``, ``"train"`` …
        num_images: Images to choose; all, if there are fewer.
        seed: Of the choice.
        view_seed: Of the views.
        views_per_image: Pairs of views of each image, whose index is then repeated.
    """
    data = run.source.split(split)
    order = np.random.default_rng(seed).permutation(len(data))[:num_images]
    indices = torch.from_numpy(np.sort(order)).repeat(views_per_image)
    images, indices = select_images(data, indices, run.source.channels, run.source.image_size)
    return view_pairs(
        run.method,
        images,
        run.views.to(run.device),
        labels=torch.as_tensor(data.labels)[indices],
        classes=data.classes,
        split=split,
        indices=indices,
        seed=view_seed,
    )
