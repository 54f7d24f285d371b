import math

import pytest
import torch
from torchvision.transforms import v2

from vje_pyro.data.colour import chroma_basis, saturation_hue_matrix

TF = v2.functional


def matrix(saturation=1.0, hue=0.0):
    return saturation_hue_matrix(
        torch.tensor([saturation]), torch.tensor([2 * math.pi * hue]), chroma_basis()
    )


def apply(change, image):
    return torch.einsum("ij,jhw->ihw", change[0], image)


def muted(seed=0):
    """Colours from the middle of the range, which no change clips."""
    return 0.4 + 0.2 * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_saturation_is_torchvisions(factor):
    ours = apply(matrix(saturation=factor), muted())
    # torchvision's luma weights sum to 0.9999
    torch.testing.assert_close(ours, TF.adjust_saturation(muted(), factor), atol=2e-4, rtol=0)


def test_no_saturation_is_torchvisions_grayscale():
    ours = apply(matrix(saturation=0.0, hue=0.3), muted())
    torch.testing.assert_close(ours, TF.rgb_to_grayscale(muted(), 3), atol=2e-4, rtol=0)


def test_no_change_is_the_identity():
    torch.testing.assert_close(matrix(), torch.eye(3)[None], atol=1e-6, rtol=0)


@pytest.mark.parametrize("hue", [-0.4, 0.1, 0.5])
def test_hue_keeps_mean_and_grey_and_has_an_inverse(hue):
    change = matrix(hue=hue)[0]
    torch.testing.assert_close(change.sum(0), torch.ones(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(change.sum(1), torch.ones(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(change @ matrix(hue=-hue)[0], torch.eye(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hue", [-1 / 3, 1 / 3])
def test_a_third_of_a_turn_is_torchvisions(hue):
    ours = apply(matrix(hue=hue), muted())
    torch.testing.assert_close(ours, TF.adjust_hue(muted(), hue), atol=1e-4, rtol=0)


@pytest.mark.parametrize("hue", [-0.2, -0.1, 0.1, 0.2])
def test_a_small_turn_is_near_torchvisions(hue):
    theirs = TF.adjust_hue(muted(), hue)
    ours = (apply(matrix(hue=hue), muted()) - theirs).abs().mean()
    none = (muted() - theirs).abs().mean()
    opposite = (apply(matrix(hue=-hue), muted()) - theirs).abs().mean()
    assert ours < 0.8 * none < 0.8 * opposite


def test_saturation_comes_before_hue():
    both = matrix(saturation=0.5, hue=0.2)[0]
    expected = matrix(hue=0.2)[0] @ matrix(saturation=0.5)[0]
    torch.testing.assert_close(both, expected, atol=1e-6, rtol=0)
