"""Labels reach the methods that ask for them, and no others."""

import pytest
import torch

from vje_pyro.errors import DataError
from vje_pyro.training.labels import labels_for


def make_method(toy):
    class Labelled(toy.ToyMethod):
        uses_labels = True

        def __init__(self):
            super().__init__(noise=0.0)
            self.seen = []

        def loss(self, views, labels):
            self.seen += zip(views[0], labels.tolist(), strict=True)
            return super().loss(views)

    torch.manual_seed(0)
    return Labelled()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_every_image_comes_with_its_label(tmp_path, toy, accumulate):
    loader = toy.ToyLoader()
    loader.labels = torch.arange(64)
    loader.labels[::3] = -1
    method, _ = toy.train(
        tmp_path, make_method(toy), loader, toy.plain_views, epochs=1, accumulate=accumulate
    )
    pixels = toy.normalize(loader.images)
    assert len(method.seen) == 64
    for view, label in method.seen:
        image = (pixels == view).flatten(1).all(1).nonzero().item()
        assert label == (-1 if image % 3 == 0 else image)


def test_without_any_label_it_is_an_error(tmp_path, toy):
    loader = toy.ToyLoader()
    loader.labels = torch.full((64,), -1)
    with pytest.raises(DataError, match="Labelled learns from labels, but none of the 64 training"):
        toy.train(tmp_path, make_method(toy), loader)


def test_other_methods_are_given_none(toy):
    assert labels_for(toy.ToyMethod(), toy.ToyLoader(), torch.device("cpu")) == ()
