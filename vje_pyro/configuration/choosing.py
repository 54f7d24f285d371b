"""What ``experiment=my_images`` leaves open, chosen from the images and the machine."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from vje_pyro.configuration.overrides import MULTIRUN, as_words, composed, sample_jobs, swept_keys
from vje_pyro.errors import DataError, VJEError, explained

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vje_pyro.data import ImageFiles

EXPERIMENT = "my_images"

LEAST_IMAGES = 5
"""A training cannot be judged with fewer: the monitor needs a bank and queries."""

MIN_STEPS = 4
"""Steps of an epoch, at least: the batch is cut for that."""

_SAMPLE = 200
"""Pictures whose size is read."""

_IN_MEMORY = 5000
"""Pictures that are decoded before the first step: minutes of a CPU."""


@dataclass(frozen=True)
class Choice:
    """A value for a key, and why."""

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}: {self.reason}"


@dataclass(frozen=True)
class Pictures:
    """What choices are made from.

    Args:
        count: Pictures to train on.
        shorter_side: Median in pixels.
        per_class: Pictures of the smallest class that could be tested on; 0 without classes, or
            where the folder has splits of its own.
        cores: CPU cores.
        cuda: Whether a CUDA device trains.
    """

    count: int
    shorter_side: int
    per_class: int
    cores: int
    cuda: bool

    @classmethod
    def of(cls, config: "DictConfig") -> "Pictures":
        """What the folder and the machine of a configuration hold.

        Raises:
            DataError: There are fewer than :data:`LEAST_IMAGES` pictures, or none can be read.
        """
        import torch

        from vje_pyro.building import build
        from vje_pyro.training.devices import cores

        with explained("data.root"):
            source = build(config.data, in_memory=False)
            files = source.split("pretrain")
            if len(files) < LEAST_IMAGES:
                raise DataError(
                    f"{len(files)} image{'s' * (len(files) > 1)} in {files.root}: training "
                    f"needs at least {LEAST_IMAGES}; set data.root=FOLDER to one with more."
                )
            sides = _shorter_sides(files)
        counts = files.labels[files.labels >= 0].bincount()
        can_split = len(counts) > 1 and "test" not in source.splits
        return cls(
            count=len(files),
            shorter_side=round(median(sides)),
            per_class=int(counts.min()) if can_split else 0,
            cores=cores() or 1,
            cuda=config.device.accelerator != "cpu" and torch.cuda.is_available(),
        )


def _shorter_sides(files: "ImageFiles") -> list[int]:
    sides = [min(size) for size in files.draw(_SAMPLE, seed=0).sizes()]
    if not sides:
        raise DataError(
            f"none of the images sampled from {files.root} can be read; set data.root=FOLDER to "
            "another folder."
        )
    return sides


def with_experiment(words: Sequence[str]) -> list[str]:
    """The words; a folder alone, without ``data`` or ``experiment``, is ``experiment=my_images``.

    Example:
        >>> with_experiment(["data.root='photos'", "seed=1"])
        ['experiment=my_images', "data.root='photos'", 'seed=1']
        >>> with_experiment(["experiment=cifar10", "data.root='data'"])
        ['experiment=cifar10', "data.root='data'"]
        >>> with_experiment(["data=folder", "data.root=a,b", "-m"])
        ['data=folder', 'data.root=a,b', '-m']
    """
    given = _given(words)
    if "data.root" in given and not {"data", "experiment"} & given.keys():
        return [f"experiment={EXPERIMENT}", *words]
    return list(words)


def _given(words: Sequence[str]) -> dict[str, str]:
    """Values as they are written, by their keys."""
    pairs = (word.partition("=") for word in words if "=" in word)
    return {key.lstrip("+~"): value for key, _, value in pairs}


def with_choices(words: Sequence[str]) -> list[str]:
    """The words of :func:`with_experiment`, and what ``experiment=my_images`` chooses.

    Args:
        words: Overrides of the command line, as :func:`~.overrides.readable` gives them.

    Raises:
        DataError: The folder is absent, or holds too few images.
        VJEError: The words do not compose, or sweep over folders.
    """
    words = with_experiment(words)
    given = _given(words)
    if given.get("experiment") != EXPERIMENT:
        return words
    if "data.root" in swept_keys(words):
        raise VJEError(
            f"data.root={given['data.root']}: {EXPERIMENT} chooses for one folder; train each "
            "folder with its own command, or name another experiment."
        )
    plain = [word for word in words if not word.startswith("-")]
    sweeps = any(word in MULTIRUN for word in words)
    config = composed(sample_jobs(plain)[0] if sweeps else plain)
    if not str(config.data.get("_target_")).endswith(".ImageFolder"):
        return words
    chosen = list(_chosen(Pictures.of(config), config, given))
    return words + as_words({c.key: c.value for c in chosen} | {"chosen": [*map(str, chosen)]})


def _chosen(pictures: Pictures, config: "DictConfig", given: dict[str, str]) -> Iterator[Choice]:
    """The choices, without those that the user has made."""
    size = config.data.image_size if "data.image_size" in given else _image_size(pictures)
    for choice in choices(pictures, size):
        groups = {key.partition(".")[0] for key in given} if choice.key == "encoder" else given
        beside = choice.key.startswith("encoder.") and "encoder" in given
        group = choice.key.partition(".")[0]
        if given.get(group) == "none":
            continue
        if choice.key not in groups and not beside:
            yield choice


def choices(pictures: Pictures, size: int) -> list[Choice]:
    """All choices for square images of ``size`` pixels.

    Example:
        >>> pictures = Pictures(200, shorter_side=480, per_class=0, cores=2, cuda=False)
        >>> for choice in choices(pictures, 64):
        ...     print(choice)
        data.image_size=64: the median of the images' shorter side is 480 pixels; training on a CPU
        ...
        training.epochs=120: 200 images; more images need fewer epochs
        ...
    """
    count, cuda = pictures.count, pictures.cuda
    machine = "a GPU" if cuda else "a CPU"
    median_side = f"the median of the images' shorter side is {pictures.shorter_side} pixels"
    views = "cifar" if size <= 64 else "stl10" if size <= 128 else "imagenet"
    batch = batch_size(count, 256 if cuda else 64)
    epochs = _epochs(pictures)
    found = [
        Choice("data.image_size", size, f"{median_side}; training on {machine}"),
        Choice("views", views, f"the recipe for {size} pixels"),
        Choice("encoder", "resnet18" if cuda else "small_resnet", f"training on {machine}"),
        Choice("loader.batch_size", batch, f"{count} images in {MIN_STEPS} steps or more"),
        Choice("training.epochs", epochs, f"{count} images; more images need fewer epochs"),
        Choice("monitor.every_epochs", max(1, epochs // 10), "ten times per training"),
        Choice("loader.num_workers", min(pictures.cores, 16), f"{pictures.cores} CPU cores"),
    ]
    if not cuda:
        small = [32, 64, 128] if count < _IN_MEMORY else [64, 128, 256]
        found += [
            Choice("encoder.widths", small, f"{count} images on a CPU"),
            Choice("encoder.stem_width", small[0] // 2, "half of the first width"),
        ]
        if count <= _IN_MEMORY:
            found += [Choice("data.in_memory", True, "each image is decoded once")]
    if pictures.per_class >= MIN_STEPS:
        found += [Choice("data.test_fraction", 0.2, "the folder has classes to evaluate with")]
    return found


def batch_size(count: int, most: int) -> int:
    """The largest power of two that gives an epoch of ``count`` images four steps, up to ``most``.

    Example:
        >>> batch_size(143, 256), batch_size(1000, 256), batch_size(5000, 256)
        (32, 128, 256)
    """
    return min(most, 1 << max(1, (count // MIN_STEPS).bit_length() - 1))


def _image_size(pictures: Pictures) -> int:
    """The greatest of the usual sizes that pictures and machine allow."""
    sizes = (32, 64, 96, 128, 224) if pictures.cuda else (32, 64)
    return max([size for size in sizes if size <= pictures.shorter_side], default=sizes[0])


def _epochs(pictures: Pictures) -> int:
    """Epochs so that the time grows with the square root of the number of pictures."""
    most, least, at = (400, 30, 20_000 / 16) if pictures.cuda else (120, 5, 200)
    return round(max(least, min(most, most * math.sqrt(at / pictures.count))))
