"""WebDataset tar shards as a data source: sets that do not fit a disk, or a file system."""

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from vje_pyro.data.folders import IMAGENET_MEAN, IMAGENET_STD
from vje_pyro.data.shard_files import ShardFiles
from vje_pyro.data.shard_index import INDEX_NAME, ShardIndex
from vje_pyro.data.shards import join
from vje_pyro.data.sources import DataSource
from vje_pyro.data.value_ranges import checked_range
from vje_pyro.errors import DataError
from vje_pyro.ranges import (
    Channels,
    ImageSize,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
)


class WebDataset(DataSource):
    """Images in plain tar shards, in a folder or behind URLs.

    Their number, places and labels come from an index (``python -m vje_pyro.data index``). A
    pattern names shards of the index: ``train-{000000..001281}.tar``, ``train-*.tar``, several
    joined by ``::``. Training reads shards from front to back
    (:class:`~vje_pyro.data.ShardLoader`); evaluation reads the images it needs.

    Args:
        root: Folder of the shards, or its URL (``https://…``, ``gs://…``).
        pretrain: Pattern of the shards to train on.
        train: Pattern of the labelled training images; null: ``pretrain``.
        val: Pattern of validation images; null: none.
        test: Pattern of test images; null: ``val``.
        index: The index, below ``root`` or a path or URL of its own.
        image_size: Height and width of crops and of evaluation images.
        channels: 3 (RGB) or 1 (grey).
        mean: Channel means for normalisation; null is ImageNet's.
        std: Channel standard deviations; null is ImageNet's.
        crop_fraction: Share of the shorter side that evaluation keeps (ImageNet's custom: 0.875).
        streams: Parts of a batch that are read side by side, a multiple of processes × workers
            that divides the batch size; null: see ``ShardLoader``. The order of training depends
            on it.
        shuffle_buffer: Images among which a shuffle mixes, in the memory of all processes
            together; the order of training depends on it.
        train_limit: Training images, class-balanced; null is all.
        test_limit: Test images, class-balanced; null is all.
        value_range: Values that become black and white in grey images of more than 8 bits; null: 0
            and 65535 of integers, 0 and 1 of floating-point numbers.
        max_corrupt: Damaged images, or lost ones at the end of truncated shards, that are skipped
            before giving up.

    Raises:
        ValueError: If an argument is out of its range.

    Source: the format of A. Aizman, G. Maltby, T. Breuel, High Performance I/O For Large Scale Deep
    Learning, IEEE Big Data 2019.
    """

    name = "webdataset"

    def __init__(
        self,
        root: str,
        pretrain: str,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        index: str = INDEX_NAME,
        image_size: ImageSize = 224,
        channels: Channels = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[PositiveFloat] | None = None,
        crop_fraction: Probability = 1.0,
        streams: PositiveInt | None = None,
        shuffle_buffer: NonNegativeInt = 8192,
        train_limit: PositiveInt | None = None,
        test_limit: PositiveInt | None = None,
        value_range: Sequence[float] | None = None,
        max_corrupt: NonNegativeInt = 10,
    ) -> None:
        super().__init__(train_limit, test_limit)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        if not 0 < crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {crop_fraction}")
        if (streams is not None and streams < 1) or shuffle_buffer < 0:
            raise ValueError(
                "streams must be at least 1 or null and shuffle_buffer at least 0, got "
                f"{streams} and {shuffle_buffer}"
            )
        self.root, self.index_path = str(root), join(str(root), str(index))
        patterns: dict[str, str | None] = {"pretrain": pretrain, "train": train or pretrain}
        patterns |= {"val": val, "test": test or val}
        self.splits = {name: pattern for name, pattern in patterns.items() if pattern}
        self.image_size = image_size
        self.channels = channels
        self.mean = tuple(mean or IMAGENET_MEAN[:channels])
        self.std = tuple(std or IMAGENET_STD[:channels])
        self.crop_fraction = crop_fraction
        self.streams, self.shuffle_buffer = streams, shuffle_buffer
        self.value_range = checked_range(value_range)
        self.max_corrupt = max_corrupt

    @cached_property
    def index(self) -> ShardIndex:
        """Where the images lie."""
        return ShardIndex.read(self.index_path, self.root)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of classes, by name or else by the greatest label."""
        return len(self.index.classes) or int(self.index.labels.max(initial=-1)) + 1

    def _load(self, stored: str) -> ShardFiles:
        samples = self.index.select(stored)
        if not len(samples):
            raise DataError(f"the shards {stored} of {self.root} hold no images")
        files = ShardFiles(
            self.index,
            samples,
            image_size=self.image_size,
            channels=self.channels,
            crop_fraction=self.crop_fraction,
            max_corrupt=self.max_corrupt,
            value_range=self.value_range,
            streams=self.streams,
            shuffle_buffer=self.shuffle_buffer,
        )
        files.check()
        return files

    def _chosen(self, labels: Tensor, part: slice) -> Tensor:
        # as they are stored: what is read from front to back is read once
        return super()._chosen(labels, part).sort().values
