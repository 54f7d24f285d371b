import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF
from torchvision.transforms import v2

from vje_pyro.data.crops import apply_separable, blur_matrix, resample_matrix, sample_boxes

# left, top, width, height in an image of 20 x 24 (height x width)
BOXES = [(0, 0, 24, 20), (3, 2, 10, 12), (5, 0, 19, 7), (20, 16, 4, 4), (1, 1, 22, 18)]


def image(height=20, width=24):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255


def resample(pixels, left, top, width, height, size):
    n = torch.tensor([float(left), width, top, height])[:, None]
    columns = resample_matrix(n[0], n[1], pixels.shape[-1], size)
    rows = resample_matrix(n[2], n[3], pixels.shape[-2], size)
    return apply_separable(pixels, rows, columns)


@pytest.mark.parametrize("size", [6, 16, 32])
@pytest.mark.parametrize("box", BOXES)
def test_crop_matches_torchvision_away_from_inner_edges(box, size):
    left, top, width, height = box
    ours = resample(image(), *box, size)
    theirs = TF.resized_crop(image(), top, left, height, width, [size, size], antialias=True)
    # at an edge that is not the image's, torchvision repeats the last pixel of the crop, and we
    # (like Pillow) look at its neighbour: skip one filter width there
    reach = [math.ceil(max(1, extent / size) * size / extent) for extent in (width, height)]
    x0, x1 = (0 if left == 0 else reach[0]), (size if left + width == 24 else size - reach[0])
    y0, y1 = (0 if top == 0 else reach[1]), (size if top + height == 20 else size - reach[1])
    assert (x1 - x0) * (y1 - y0) > 0
    torch.testing.assert_close(
        ours[..., y0:y1, x0:x1], theirs[..., y0:y1, x0:x1], atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("size", [6, 16, 32])
@pytest.mark.parametrize("box", [*BOXES, (2.3, 4.7, 11.1, 9.9)])
def test_crop_matches_pillow_everywhere(box, size):
    left, top, width, height = box
    pixels = image().round()
    ours = resample(pixels, *box, size)[0]
    pillow = Image.fromarray(pixels[0].permute(1, 2, 0).numpy().astype(np.uint8))
    theirs = pillow.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
    )
    difference = ours - torch.from_numpy(np.array(theirs)).permute(2, 0, 1)
    assert difference.abs().max() <= 1.01  # Pillow rounds after each axis


def test_whole_image_at_its_size_is_the_identity():
    assert torch.equal(resample(image(16, 16), 0, 0, 16, 16, 16), image(16, 16))


def test_negative_length_mirrors():
    plain = resample(image(), 3, 2, 10, 12, 8)
    mirrored = resample(image(), 13, 2, -10, 12, 8)
    torch.testing.assert_close(mirrored, plain.flip(-1), atol=1e-4, rtol=0)


def test_rows_sum_to_one():
    matrix = resample_matrix(torch.rand(50) * 5, 0.5 + torch.rand(50) * 20, 26, 9)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(50, 9))
    assert (matrix >= 0).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 50), (60, 10)])
def test_boxes_fit_and_have_the_wanted_area(height, width):
    uniforms = torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0))
    left, top, w, h = sample_boxes(uniforms, height, width, (0.2, 0.6), (3 / 4, 4 / 3))
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + w <= width + 1e-4).all()
    assert (top + h <= height + 1e-4).all()
    fits = (w < width * 0.999) & (h < height * 0.999)
    area, ratio = (w * h)[fits] / (height * width), (w / h)[fits]
    assert area.min() >= 0.2 - 1e-4
    assert area.max() <= 0.6 + 1e-4
    assert ratio.min() >= 3 / 4 - 1e-4
    assert ratio.max() <= 4 / 3 + 1e-4
    if height == width:
        assert fits.all()
        # uniform area, log-uniform ratio: means and spread
        assert area.mean() == pytest.approx(0.4, abs=0.005)
        assert area.std() == pytest.approx(0.4 / math.sqrt(12), abs=0.005)
        assert ratio.log().mean() == pytest.approx(0, abs=0.01)
        assert ratio.log().std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), abs=0.01)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.8])
def test_blur_matches_torchvision_away_from_borders(sigma):
    pixels = image(24, 24)
    matrix = blur_matrix(torch.tensor([sigma]), 24)
    theirs = v2.functional.gaussian_blur(pixels, [15, 15], [sigma, sigma])
    inner = (..., slice(7, -7), slice(7, -7))
    torch.testing.assert_close(
        apply_separable(pixels, matrix, matrix)[inner], theirs[inner], atol=0.02, rtol=0
    )
    torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 24))


def test_blur_of_zero_is_the_identity():
    assert torch.equal(blur_matrix(torch.zeros(2), 8), torch.eye(8).expand(2, 8, 8))
