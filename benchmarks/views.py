"""Two views of a batch on the CPU: ours, kornia, and torchvision image by image.

The three do the same work: random resized crop, flip, colour jitter, grayscale, normalisation, each
image its own draw. kornia is optional: where it is absent, it is left out.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.timing import beside, in_turns, spread
from vje_pyro.data import Views
from vje_pyro.evaluation import Figure

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
Maker = Callable[[Tensor], object]


def torchvision_loop(size: int) -> Maker:
    """One image at a time: what a DataLoader worker does, without decoding and collation."""
    transform = v2.Compose([
        v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip
    return lambda images: [torch.stack([transform(x) for x in images]) for _ in range(2)]


def kornia_batch(size: int) -> Maker:
    """kornia's own per-image parameters for a whole batch."""
    import kornia.augmentation as K

    transform = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )
    return lambda images: [transform(images.float() / 255) for _ in range(2)]


def views(options: argparse.Namespace) -> dict[str, Figure]:
    """Milliseconds of each at the largest image size, and its ratio to ours."""
    size = max(options.image_sizes)
    makers: dict[str, Maker] = {"ours": Views(size, MEAN, STD)}
    makers["torchvision_per_image"] = torchvision_loop(size)
    if find_spec("kornia"):
        makers["kornia"] = kornia_batch(size)
    images = torch.randint(0, 256, (options.batch, 3, size, size), dtype=torch.uint8)
    times = in_turns({n: partial(make, images) for n, make in makers.items()}, options.blocks)
    figures = {f"{n}_ms": spread([1000 * s for s in x], "calls") for n, x in times.items()}
    return figures | {f"{n}_to_ours": beside(times, n, "ours") for n in makers if n != "ours"}
