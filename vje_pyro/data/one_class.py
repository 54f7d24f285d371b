"""One class of a data set to train on; all classes to test."""

from collections.abc import Mapping

import torch

from vje_pyro.data.sources import DataSource, Split
from vje_pyro.data.value_ranges import ValueRange
from vje_pyro.errors import DataError
from vje_pyro.ranges import NonNegativeInt


class OneClass(DataSource):
    """A data set whose splits ``pretrain`` and ``train`` are cut to one class.

    The other splits, and what is known of the data (name, channels, size, mean), are the whole
    set's. Limits are those of the whole set, before the cut.

    Args:
        source: The whole data set.
        label: Number of the class.
    """

    splits: Mapping[str, str]

    def __init__(self, source: DataSource, label: NonNegativeInt) -> None:
        super().__init__(source.train_limit, source.test_limit)
        self.source, self.label = source, label
        self.value_range = source.value_range
        for attribute in ("name", "channels", "image_size", "num_classes", "mean", "std", "splits"):
            setattr(self, attribute, getattr(source, attribute))

    def split(self, name: str) -> Split:
        """See ``DataSource.split``.

        Raises:
            DataError: If no training image has the label.
        """
        whole = self.source.split(name)
        if name not in ("pretrain", "train"):
            return whole
        members = torch.nonzero(whole.labels == self.label)[:, 0]
        if not len(members):
            present = whole.labels.unique().tolist()
            raise DataError(
                f"no image of class {self.label!r} in the {name} split of {self.name}, which has "
                f"the classes {present}."
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
