import pytest
import torch

from vje_pyro.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(0, 1)
    grain = 0.1 * torch.rand(6, 3, 32, 32, generator=generator)
    return (255 * (0.9 * smooth + grain)).to(torch.uint8)


def distance(a, b):
    return (a.float() - b.float()).square().mean().item()


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_each_severity_is_further_from_the_image(images, name):
    global_state = torch.random.get_rng_state()
    levels = [corrupt(images, name, severity) for severity in (0, *SEVERITIES)]
    assert torch.equal(torch.random.get_rng_state(), global_state)
    assert all(level.dtype == torch.uint8 and level.shape == images.shape for level in levels)
    assert torch.equal(levels[0], images)
    gaps = [distance(level, images) for level in levels]
    assert gaps == sorted(gaps)
    assert len(set(gaps)) == 6
    assert torch.equal(levels[3], corrupt(images, name, 3))


def test_what_each_does(images):
    pixels = images.float() / 255
    noise = corrupt(torch.full((4, 3, 32, 32), 128, dtype=torch.uint8), "gaussian-noise", 3)
    assert noise.float().std().item() / 255 == pytest.approx(0.12, rel=0.03)
    assert not torch.equal(noise, corrupt(torch.full_like(noise, 128), "gaussian-noise", 3, seed=1))
    assert corrupt(images, "gaussian-blur", 5).float().diff().abs().mean() < (
        0.7 * images.float().diff().abs().mean()
    )
    flat = corrupt(images, "contrast", 5).float() / 255
    spread = (pixels - pixels.mean((1, 2, 3), keepdim=True)).std().item()
    mean = flat.mean((1, 2, 3), keepdim=True)
    assert (flat - mean).std().item() == pytest.approx(0.15 * spread, rel=0.05)
    bright = corrupt(images, "brightness", 2).float() / 255
    assert torch.allclose(bright, (pixels + 0.2).clamp(max=1), atol=2 / 255)
    blocks = corrupt(images, "pixelate", 1)  # half the side: squares of two pixels
    assert torch.equal(blocks[..., ::2, ::2], blocks[..., 1::2, 1::2])


def test_small_and_grey_images():
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    for name in CORRUPTIONS:
        assert corrupt(images, name, 5).shape == images.shape


@pytest.mark.parametrize(
    ("name", "severity", "message"),
    [("fog", 1, "unknown corruption 'fog'"), ("contrast", 6, "severity must be 0, 1")],
)
def test_bad_arguments(images, name, severity, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images, name, severity)
    with pytest.raises(ValueError, match="uint8"):
        corrupt(images.float(), "contrast", 1)
