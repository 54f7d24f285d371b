"""How unusual images are: what is chosen, and that nothing judges what it was fitted on."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from vje_pyro.data import ImageArray
from vje_pyro.encoders import Identity
from vje_pyro.errors import DataError, VJEError
from vje_pyro.evaluation.detectors import KNNDistance
from vje_pyro.evaluation.unusual import FOLDS, Unusual, describe
from vje_pyro.method import Method

FEATURES = 12


class Patches(Method):
    """The embedding of an image is the means of its four patches."""

    loss = None

    def __init__(self):
        super().__init__(Identity(FEATURES))
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def embed(self, images):
        return avg_pool2d(images, 4).flatten(1)


def normalize(images):
    return images.float() / 255 - 0.5


def pictures(count, seed=0):
    """Dark images, each with a colour of its own."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randint(0, 60, (count, 3, 1, 1), generator=generator)
    return (colour + torch.randint(0, 20, (count, 3, 8, 8), generator=generator)).to(torch.uint8)


def split(images):
    return ImageArray(images, torch.zeros(len(images), dtype=torch.int64))


def test_a_covariance_takes_part_where_half_of_the_images_determine_it():
    few, many = (
        Unusual(Patches().eval(), split(pictures(n)), normalize)
        for n in (2 * FEATURES, 2 * FEATURES + 2)
    )
    assert (list(few.merits), few.detector) == (["knn"], "knn")
    assert list(many.merits) == ["mahalanobis", "knn"]
    assert many.detector == max(many.merits, key=many.merits.get)


@pytest.mark.parametrize("detector", ["knn", "mahalanobis"])
def test_a_bright_image_is_the_most_unusual_though_it_was_trained_on(detector):
    images = pictures(100)
    images[7] = 250
    method = Patches().eval()
    unusual = Unusual(method, split(images), normalize, detector)
    scores = unusual(describe(method, split(images), normalize))
    assert unusual.merits == {}
    assert scores.argmax() == 7


def test_an_image_is_judged_without_its_fold():
    images = pictures(100)
    images[1] = images[0]  # copies are of one fold
    method = Patches().eval()
    unusual = Unusual(method, split(images), normalize, "knn")
    described = describe(method, split(images), normalize)
    scores = unusual(described)
    fold = np.array([unusual.folds[digest] for digest in described.digests])
    assert fold[0] == fold[1]
    assert set(fold) == set(range(FOLDS))
    kept = np.array([unusual.folds[digest] for digest in unusual.train.digests]) != fold[0]
    expected = KNNDistance(unusual.train.features["knn"][kept])(described.features["knn"][:2])
    assert scores[:2] == pytest.approx(expected, abs=1e-6)  # float32 cosines


def test_what_cannot_be_judged_is_an_error():
    method = Patches().eval()
    with pytest.raises(DataError, match="1 different training images"):
        Unusual(method, split(pictures(1).repeat(8, 1, 1, 1)), normalize)
    with pytest.raises(VJEError, match="no score 'magic': choose from mahalanobis, knn"):
        Unusual(method, split(pictures(40)), normalize, "magic")
