import pytest
import torch

from vje_pyro.evaluation.random_crops import SIDES, random_crops


def test_a_crop_is_a_window_of_the_image_of_the_stated_size():
    """Of a ramp from 0 to 255 a crop shows a stretch, whose length tells its side."""
    side = 64
    ramp = torch.linspace(0, 255, side).round().to(torch.uint8)
    images = ramp.expand(400, 1, side, side).contiguous()
    crops = random_crops(images, seed=0).float()
    assert crops.shape == images.shape
    # A window of share s runs over s of the ramp, between the centres of its outer pixels.
    share = (crops[..., -1] - crops[..., 0]).mean((1, 2)) / 255 * side / (side - 1)
    assert SIDES[0] - 0.03 < share.min() < SIDES[0] + 0.03
    assert SIDES[1] - 0.03 < share.max() < SIDES[1] + 0.03
    assert share.mean() == pytest.approx(sum(SIDES) / 2, abs=0.04)
    start = crops[..., 0].mean((1, 2)) / 255
    assert (start + share).max() < 1.03
    small = share < 0.5
    assert start[small].min() < 0.1 < 0.4 < start[small].max()


def test_images_have_crops_of_their_own_and_a_seed_repeats_them():
    images = torch.randint(256, (1, 3, 8, 12), dtype=torch.uint8).expand(5, 3, 8, 12)
    first, again, other = (random_crops(images, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8).byte()])
def test_images_that_are_no_uint8_batch_are_refused(images):
    with pytest.raises(ValueError, match="must be uint8"):
        random_crops(images, 0)
