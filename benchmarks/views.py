"""Time to make two views of a batch on the CPU: ours, kornia, and torchvision image by image.

    python benchmarks/views.py [--out FILE] [--batch 256] [--size 32] [--repeats 9]

The three do the same work (random resized crop, flip, colour jitter, grayscale, normalisation, each
image its own draw), in alternating runs in one process on one thread; medians and their ratios go
to a JSON file. kornia is optional: where it is absent, it is left out. With ``--step`` a training
step of a small residual network is timed as well, to set the views against.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import v2

from vje_pyro.atomic import write_atomic
from vje_pyro.data import Views

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
Maker = Callable[[Tensor], object]


def ours(size: int, blur: bool) -> Maker:
    return Views(size, MEAN, STD, blur=0.5 if blur else 0.0, blur_sigma=(0.1, 1.0))


def torchvision_loop(size: int, blur: bool) -> Maker:
    """One image at a time: what a DataLoader worker does, without decoding and collation."""
    recipe = [
        v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
    ]
    if blur:
        recipe.append(v2.RandomApply([v2.GaussianBlur(9, (0.1, 1.0))], p=0.5))
    transform = v2.Compose(
        [*recipe, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    return lambda images: [torch.stack([transform(x) for x in images]) for _ in range(2)]


def kornia_batch(size: int, blur: bool) -> Maker:
    """kornia's own per-image parameters for a whole batch."""
    import kornia.augmentation as K

    recipe = [
        K.RandomResizedCrop((size, size), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    ]
    if blur:
        recipe.append(K.RandomGaussianBlur((9, 9), (0.1, 1.0), p=0.5))
    transform = K.AugmentationSequential(
        *recipe, K.Normalize(torch.tensor(MEAN), torch.tensor(STD)), data_keys=["input"]
    )
    return lambda images: [transform(images.float() / 255) for _ in range(2)]


def training_step(size: int) -> Maker:
    """Forward and backward pass of two views through stem 3→32 and stages 64, 128, 256."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    network = nn.Sequential(
        *[block(3, 32, 1), block(32, 64, 2), block(64, 128, 2), block(128, 256, 2)],
        nn.AdaptiveAvgPool2d(1),
    )
    return lambda images: network(torch.rand(2 * len(images), 3, size, size)).sum().backward()


def measure(makers: dict[str, Maker], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each run; the makers take turns, after one run each to warm up."""
    times: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(repeats + 1):
        for name, make in makers.items():
            start = time.perf_counter()
            make(images)
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/benchmarks/views.json"))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blur", action="store_true")
    parser.add_argument("--step", action="store_true", help="time a training step as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    makers = {
        "ours": ours(args.size, args.blur),
        "torchvision_per_image": torchvision_loop(args.size, args.blur),
    }
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    try:
        makers["kornia"] = kornia_batch(args.size, args.blur)
        versions["kornia"] = __import__("kornia").__version__
    except ImportError:
        print("kornia is not installed: left out")
    if args.step:
        makers["training_step"] = training_step(args.size)

    images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8)
    times = measure(makers, images, args.repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "benchmark": "views-v1",
        "what": f"two views of {args.batch} images of 3x{args.size}x{args.size}, milliseconds",
        "blur": args.blur,
        "threads": args.threads,
        "median_ms": medians,
        "min_ms": {name: min(values) for name, values in times.items()},
        "times_ours": {name: value / medians["ours"] for name, value in medians.items()},
        "runs_ms": times,
        "machine": platform.processor() or platform.machine(),
        "versions": versions,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out, json.dumps(result, indent=2) + "\n")
    for name, value in medians.items():
        print(f"{name:24s} {value:8.1f} ms   {result['times_ours'][name]:6.1f} times ours")
    print(args.out)


if __name__ == "__main__":
    main()
