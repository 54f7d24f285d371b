"""The effective dimension of the noise of an image's views, where it is known."""

import pytest
import torch

from studies.view_noise import noise_figures

VIEWS, IMAGES, DIM = 16, 100, 64


@pytest.mark.parametrize(("rank", "low", "high"), [(1, 1.0, 1.1), (DIM, 10.0, 15.0)])
def test_noise_along_the_image_s_own_directions_has_few_dimensions(rank, low, high):
    torch.manual_seed(0)
    mean = 8 * torch.nn.functional.normalize(torch.randn(IMAGES, DIM), dim=-1)
    own = torch.linalg.qr(torch.randn(IMAGES, DIM, rank)).Q
    noise = torch.einsum("vnr,ndr->vnd", torch.randn(VIEWS, IMAGES, rank), own)
    found = noise_figures(mean + 0.1 * noise)
    assert low <= found["dimension"].value < high


@pytest.mark.parametrize("spread", [0.2, 0.6])
def test_size_is_the_variance_of_the_log_norm_within_images(spread):
    torch.manual_seed(0)
    mean = 8 * torch.nn.functional.normalize(torch.randn(IMAGES, DIM), dim=-1)
    many = 300  # with few, their mean takes a part of the largest noise with it
    size = (spread * torch.randn(many, IMAGES, 1)).exp()
    found = noise_figures(mean + 1e-3 * size * torch.randn(many, IMAGES, DIM))
    norms_alone = 1 / (2 * DIM)
    assert found["size"].value == pytest.approx(spread**2 + norms_alone, rel=0.05)
