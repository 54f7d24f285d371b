"""One class of a data set to train on; all classes to test."""

from dataclasses import dataclass

import torch

from vje_pyro.data.sources import DataSource, Split
from vje_pyro.data.value_ranges import ValueRange
from vje_pyro.errors import DataError
from vje_pyro.ranges import NonNegativeInt


@dataclass(eq=False, repr=False)
class OneClass(DataSource):
    """A data set whose splits ``pretrain`` and ``train`` are cut to one class, after the limits.

    Args:
        source: The whole data set.
        label: Number of the class.
    """

    source: DataSource
    label: NonNegativeInt

    def __post_init__(self) -> None:
        self.train_limit, self.test_limit = self.source.train_limit, self.source.test_limit
        super().__post_init__()
        for name in ("name", "channels", "image_size", "num_classes", "mean", "std", "splits"):
            setattr(self, name, getattr(self.source, name))
        self.value_range = self.source.value_range

    def split(self, name: str) -> Split:
        """See ``DataSource.split``; :class:`DataError` also if no training image has the label."""
        whole = self.source.split(name)
        if name not in ("pretrain", "train"):
            return whole
        members = torch.nonzero(whole.labels == self.label)[:, 0]
        if not len(members):
            raise DataError(
                f"no image of class {self.label!r} in the {name} split of {self.name}, which has "
                f"the classes {whole.labels.unique().tolist()}."
            )
        return whole.subset(members)

    def find_value_range(self) -> ValueRange | None:
        """See ``DataSource.find_value_range``."""
        return self.source.find_value_range()

    def describe(self) -> list[str]:
        """See ``DataSource.describe``."""
        return self.source.describe()

    def _load(self, stored: str) -> Split:
        return self.source._load(stored)
