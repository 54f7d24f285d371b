import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from vje_pyro.data import ImageArray, images_to_uint8, resize_images, stratified_order


def random_images(*shape):
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (torch.zeros(4, 3, 8, 8), torch.arange(4), TypeError, r"torch\.float32"),
        (torch.zeros(4, 3, 8, 8).byte(), torch.arange(4).int(), TypeError, r"torch\.int32"),
        (torch.zeros(4, 3, 8, 8).byte(), torch.arange(3), ValueError, r"\(3,\)"),
    ],
)
def test_array_checks_types_and_shapes(images, labels, error, message):
    with pytest.raises(error, match=message):
        ImageArray(images, labels)


def test_subset_and_digest():
    array = ImageArray(random_images(6, 1, 4, 4), torch.arange(6), ("a", "b"))
    part = array.subset([4, 1])
    assert len(part) == 2
    assert part.classes == ("a", "b")
    assert torch.equal(part.images, array.images[[4, 1]])
    assert part.labels.tolist() == [4, 1]
    assert array.digest() == array.subset(range(6)).digest()
    flipped = ImageArray(array.images ^ 1, array.labels)
    relabelled = ImageArray(array.images, array.labels + 1)
    digests = {array.digest(), part.digest(), flipped.digest(), relabelled.digest()}
    assert len(digests) == 4


def test_image_is_what_pillow_sees():
    array = ImageArray(random_images(2, 3, 5, 7), torch.zeros(2, dtype=torch.int64))
    (image,) = array.decoded([1])
    assert (image.mode, image.size) == ("RGB", (7, 5))
    assert np.array_equal(np.asarray(image), array.images[1].permute(1, 2, 0).numpy())


def test_stratified_order_is_balanced_nested_and_seeded():
    labels = torch.cat([torch.zeros(300), torch.ones(100), torch.full((100,), 2)]).long()
    order = stratified_order(labels)
    assert torch.equal(order.sort().values, torch.arange(500))
    for n in (10, 50, 250):
        counts = labels[order[:n]].bincount(minlength=3)
        assert (counts - torch.tensor([0.6, 0.2, 0.2]) * n).abs().max() <= 1
    assert torch.equal(order, stratified_order(labels))
    assert not torch.equal(order, stratified_order(labels, seed=1))
    assert not torch.equal(order[:300].sort().values, torch.arange(300))


def test_resize_by_a_whole_number_averages_boxes():
    images = random_images(3, 3, 8, 8)
    boxes = images.float().reshape(3, 3, 4, 2, 4, 2).mean((3, 5)).round()
    assert torch.equal(resize_images(images, 4), boxes.to(torch.uint8))


def test_resize_otherwise_is_antialiased_bilinear():
    images = random_images(3, 3, 8, 8)
    for size in (5, 12):
        expected = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        assert torch.equal(resize_images(images, size), expected.round().to(torch.uint8))


def test_resize_takes_the_central_square():
    images = random_images(2, 1, 8, 12)
    assert torch.equal(resize_images(images, 8), images[..., 2:10])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda x: x.numpy(), id="grey array"),
        pytest.param(lambda x: x.numpy()[..., None], id="channels last"),
        pytest.param(lambda x: x[:, None], id="tensor channels first"),
        pytest.param(lambda x: x.flatten(1).numpy(), id="flat"),
        pytest.param(lambda x: (x.double() / 255).numpy(), id="float64 in [0, 1]"),
        pytest.param(lambda x: x.numpy().astype(np.uint16), id="wide integers"),
        pytest.param(lambda x: x.tolist(), id="nested lists"),
    ],
)
def test_images_to_uint8_reads(make):
    grey = random_images(5, 6, 6)
    assert torch.equal(images_to_uint8(make(grey), 1, 6), grey[:, None])
    assert torch.equal(images_to_uint8(make(grey), 3, 6), grey[:, None].expand(-1, 3, -1, -1))


def test_images_to_uint8_converts_colours():
    colour = random_images(2, 3, 4, 4)
    assert torch.equal(images_to_uint8(colour, 3, 4), colour)
    assert torch.equal(images_to_uint8(colour.permute(0, 2, 3, 1).numpy(), 3, 4), colour)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = images_to_uint8(colour, 1, 4)
    assert (grey.float() - (colour * luma).sum(1, keepdim=True)).abs().max() <= 0.51
    clear = torch.cat([colour, torch.zeros(2, 1, 4, 4, dtype=torch.uint8)], 1)
    assert (images_to_uint8(clear, 3, 4) == 255).all()


def test_images_to_uint8_reads_booleans_and_resizes():
    assert images_to_uint8(np.ones((1, 6, 6), bool), 1, 8).unique().tolist() == [255]
    assert images_to_uint8(np.zeros((0, 6, 6), np.uint8), 3, 8).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.full((2, 8, 8), 16.0), ValueError, "from 16 to 16"),
        (np.full((2, 8, 8), np.nan), ValueError, "nan"),
        (np.full((2, 8, 8), 1000), ValueError, "integers in 0…255"),
        (np.full((2, 8, 8), -1), ValueError, "-1"),
        (np.zeros((2, 63)), ValueError, r"\(2, 63\)"),
        (np.zeros((2, 8, 8, 5)), ValueError, r"\(2, 8, 8, 5\)"),
        (np.zeros(8), ValueError, r"\(8,\)"),
        (np.array(["a", "b"]), TypeError, "numbers"),
        (np.zeros((2, 8, 8), complex), TypeError, "complex"),
    ],
)
def test_images_to_uint8_refuses(images, error, message):
    with pytest.raises(error, match=message):
        images_to_uint8(images, 1, 8)


def one_of_each():
    colour, grey = random_images(7, 9, 3), random_images(7, 9)
    return colour, grey, random_images(7, 9, 4), random_images(7, 9, 1)


@pytest.mark.parametrize("make", [torch.as_tensor, lambda x: x.numpy()], ids=["tensor", "array"])
def test_one_image_is_one_image(make):
    colour, grey, clear, single = one_of_each()
    for image in (colour, clear, single):
        expected = images_to_uint8(image[None].numpy(), 3, 6)
        assert torch.equal(images_to_uint8(make(image), 3, 6), expected)
    expected = images_to_uint8(grey[None, :, :, None].numpy(), 3, 6)
    assert torch.equal(images_to_uint8(make(grey), 3, 6), expected)
    square = random_images(9, 9)  # as wide as nine flat images of three by three
    assert images_to_uint8(make(square), 1, 6).shape == (1, 1, 6, 6)


def test_pillow_images_of_any_mode():
    colour, grey, clear, _ = (x.numpy() for x in one_of_each())
    for pixels in (colour, grey, clear):
        image = Image.fromarray(pixels)
        expected = images_to_uint8(pixels.reshape(1, 7, 9, -1), 3, 6)
        assert torch.equal(images_to_uint8(image, 3, 6), expected)
    assert images_to_uint8(Image.new("P", (300, 256)), 1, 6).shape == (1, 1, 6, 6)


def test_arrays_that_must_not_be_written_to():
    pixels = random_images(2, 6, 6, 3).numpy()
    pixels.setflags(write=False)
    assert images_to_uint8(pixels, 3, 6).shape == (2, 3, 6, 6)


@pytest.mark.parametrize(
    "shape",
    [(3, 3, 3), (20, 3, 3), (20, 4, 4), (3, 20, 3), (1, 20, 3), (3, 20, 20), (20, 2, 1),
     (36, 36), (50, 64), (50, 3072), (3, 50), (50,), (2, 2, 2, 2, 2), (2, 5, 5, 5), (5, 0, 5)],
)  # fmt: skip
def test_shapes_that_can_be_read_in_two_ways_are_refused(shape):
    with pytest.raises(ValueError, match=r"pass \(N, H, W, C\)|no pixels") as refusal:
        images_to_uint8(np.zeros(shape, np.uint8), 3, 6)
    assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 30])
def test_batches_of_any_number(count):
    grey = random_images(count, 6, 6)
    assert torch.equal(images_to_uint8(grey.numpy(), 1, 6)[:, 0], grey)
    assert torch.equal(images_to_uint8(grey.flatten(1).numpy(), 1, 6)[:, 0], grey)
    assert images_to_uint8(grey[..., None].numpy(), 3, 6).shape == (count, 3, 6, 6)
    assert images_to_uint8(grey[:, None], 3, 6).shape == (count, 3, 6, 6)
