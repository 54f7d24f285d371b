import math

import pytest
import torch
from torchvision.transforms import v2

from vje_pyro.data import Normalize, Views, random_views

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
OFF = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip": 0.0,
    "jitter": 0.0,
    "grayscale": 0.0,
}
"""Knobs at which a view is the image."""


def photos(n=6, channels=3, size=16, low=0, high=256):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        low, high, (n, channels, size, size), dtype=torch.uint8, generator=generator
    )


def views(images=None, seed=0, mean=MEAN, std=STD, **knobs):
    torch.manual_seed(seed)
    return Views(16, mean, std, **knobs)(photos() if images is None else images)


def pixels(normalised):
    """Back to [0, 1]."""
    return normalised * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


def test_shape_type_and_range():
    made = views(num_views=3)
    assert made.shape == (3, 6, 3, 16, 16)
    assert made.dtype == torch.float32
    assert pixels(made).min() > -1e-5
    assert pixels(made).max() < 1 + 1e-5
    assert not made.requires_grad


def test_same_seed_same_views():
    assert torch.equal(views(), views())
    assert not torch.equal(views(), views(seed=1))


def test_all_knobs_off_is_normalisation_exactly():
    reference = (photos().double() / 255 - torch.tensor(MEAN).view(3, 1, 1).double()) / (
        torch.tensor(STD).view(3, 1, 1).double()
    )
    made = views(**OFF)
    for view in made:
        torch.testing.assert_close(view.double(), reference, atol=1e-6, rtol=1e-6)
        assert torch.equal(view, Normalize(MEAN, STD)(photos()))


@pytest.mark.parametrize(
    "knobs",
    [
        pytest.param({"crop_scale": (0.2, 1.0)}, id="crop"),
        pytest.param({"jitter": 1.0, "contrast": 0, "saturation": 0, "hue": 0}, id="brightness"),
        pytest.param({"jitter": 1.0, "brightness": 0, "saturation": 0, "hue": 0}, id="contrast"),
        pytest.param({"jitter": 1.0, "brightness": 0, "contrast": 0, "hue": 0}, id="saturation"),
        pytest.param({"jitter": 1.0, "brightness": 0, "contrast": 0, "saturation": 0}, id="hue"),
        pytest.param({"blur": 1.0, "blur_sigma": (0.3, 2.0)}, id="blur"),
    ],
)
def test_each_image_and_view_has_its_own_draw(knobs):
    """The same image eight times over: no two views of it are equal."""
    copies = photos(1).expand(8, -1, -1, -1)
    made = views(copies, **(OFF | knobs)).flatten(0, 1).flatten(1)
    distance = torch.cdist(made, made) + torch.eye(16) * 1e9
    assert distance.min() > 1e-3


@pytest.mark.parametrize(
    ("knobs", "change"),
    [
        ({"flip": 0.5}, lambda x: x.flip(-1)),
        ({"grayscale": 0.5}, lambda x: v2.functional.rgb_to_grayscale(x, 3)),
        ({"solarize": 0.5}, lambda x: torch.where(x < 0.5, x, 1 - x)),
    ],
)
def test_probability_one_half_changes_some_images_and_not_others(knobs, change):
    images = photos(40)
    plain = images.float() / 255
    changed = change(plain)
    made = pixels(views(images, **(OFF | knobs)))
    near = [((made - x).abs().amax((2, 3, 4)) < 1e-3).float() for x in (plain, changed)]
    assert torch.equal(near[0] + near[1], torch.ones(2, 40))
    assert 0.25 < near[1].mean() < 0.75
    assert not torch.equal(near[1][0], near[1][1])


def test_jitter_probability():
    images = photos(200, low=100, high=150)
    made = pixels(views(images, **(OFF | {"jitter": 0.3})))
    kept = (made - images / 255).abs().amax((2, 3, 4)) < 1e-5
    assert kept.float().mean() == pytest.approx(0.7, abs=0.1)


def test_brightness_and_contrast_are_torchvisions():
    """The factor is recovered from one pixel; torchvision's operation then gives the others."""
    images = photos(20, low=90, high=150)
    plain = images.float() / 255
    only = {"jitter": 1.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    bright = pixels(views(images, **(OFF | only)))[0]
    factors = bright[:, 0, 0, 0] / plain[:, 0, 0, 0]
    assert factors.min() > 0.6 - 1e-4
    assert factors.max() < 1.4 + 1e-4
    for image, made, factor in zip(plain, bright, factors.tolist(), strict=True):
        expected = v2.functional.adjust_brightness(image, factor)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)

    only = {"jitter": 1.0, "brightness": 0.0, "saturation": 0.0, "hue": 0.0}
    hard = pixels(views(images, **(OFF | only)))[0]
    step = plain[:, 0, 0, 0] - plain[:, 0, 5, 5]
    factors = (hard[:, 0, 0, 0] - hard[:, 0, 5, 5]) / step
    for image, made, factor in zip(plain, hard, factors.tolist(), strict=True):
        if abs(factor) < 5:  # not divided by a step of nearly zero
            expected = v2.functional.adjust_contrast(image, factor)
            torch.testing.assert_close(made, expected, atol=2e-3, rtol=0)


KNOBS = {
    "crop_scale": (0.5, 0.6),
    "crop_ratio": (1.0, 1.1),
    "flip": 1.0,
    "jitter": 0.1,
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
    "hue": 0.4,
    "grayscale": 0.9,
    "blur": 0.7,
    "blur_sigma": (3.0, 4.0),
    "solarize": (0.0, 0.9),
    "mean": (0.1, 0.2, 0.3),
    "std": (1.0, 2.0, 3.0),
    "num_views": 3,
    "image_size": 8,
}


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_changes_the_views(knob):
    base = {"image_size": 16, "mean": MEAN, "std": STD, "blur": 0.5, "solarize": 0.1}
    torch.manual_seed(0)
    before = Views(**base)(photos())
    torch.manual_seed(0)
    after = Views(**(base | {knob: KNOBS[knob]}))(photos())
    assert before.shape != after.shape or not torch.allclose(before, after, atol=1e-3)


def test_a_knob_leaves_the_other_draws_alone():
    """With the crop alone on, adding colour to it does not move the boxes."""
    crop = OFF | {"crop_scale": (0.2, 1.0)}
    plain = pixels(views(**crop))
    grey = pixels(views(**(crop | {"grayscale": 1.0})))
    expected = v2.functional.rgb_to_grayscale(plain, 3)
    torch.testing.assert_close(grey, expected, atol=2e-4, rtol=0)


def test_effects_per_view():
    made = pixels(views(**(OFF | {"solarize": (0.0, 1.0)})))
    plain = photos() / 255
    torch.testing.assert_close(made[0], plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(made[1], torch.minimum(plain, 1 - plain), atol=1e-5, rtol=0)
    soft = views(**(OFF | {"blur": (1.0, 0.0), "blur_sigma": (1.0, 1.0)}))
    assert soft[0].diff(dim=-1).abs().mean() < 0.5 * soft[1].diff(dim=-1).abs().mean()


def test_grey_images_take_light_but_no_colour():
    images = photos(channels=1)
    made = views(images, mean=(0.3,), std=(0.4,))
    assert made.shape == (2, 6, 1, 16, 16)
    only = OFF | {"jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "grayscale": 1.0}
    plain = views(images, mean=(0.3,), std=(0.4,), **only)
    torch.testing.assert_close(plain[0], Normalize((0.3,), (0.4,))(images))
    light = views(images, mean=(0.3,), std=(0.4,), **(only | {"brightness": 0.4}))
    assert (light - plain).abs().amax((2, 3, 4)).min() > 0.01


def test_images_of_another_shape_than_the_views():
    made = views(torch.randint(0, 256, (3, 3, 20, 48), dtype=torch.uint8))
    assert made.shape == (2, 3, 3, 16, 16)


def test_from_crops_equals_whole_image_views():
    """With whole-image boxes the two ways in are the same map, flip, blur and colours included."""
    knobs = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "blur": 0.5, "solarize": 0.3}
    make = Views(16, MEAN, STD, **knobs)
    torch.manual_seed(3)
    whole = make(photos())
    torch.manual_seed(3)
    crops = make.from_crops(photos()[:, None].expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(crops, whole, atol=1e-4, rtol=0)


def test_from_crops_keeps_views_apart():
    make = Views(16, MEAN, STD, **OFF)
    crops = photos(12).unflatten(0, (6, 2))
    made = make.from_crops(crops)
    assert torch.equal(made[0], Normalize(MEAN, STD)(crops[:, 0]))
    assert torch.equal(made[1], Normalize(MEAN, STD)(crops[:, 1]))


def test_autocast_does_not_touch_the_pixels():
    plain = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(views(), plain)
    assert not Views(16, MEAN, STD).state_dict()  # nothing is saved with a model


def test_wrong_images_are_refused():
    make = Views(16, MEAN, STD)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        make(photos(channels=1))
    with pytest.raises(ValueError, match="crops of shape"):
        make.from_crops(photos())
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        Normalize(MEAN, STD)(photos(channels=1))


@pytest.mark.parametrize(
    "knobs",
    [
        {"crop_scale": (0.0, 1.0)},
        {"crop_scale": (0.5, 0.2)},
        {"crop_scale": (0.5, 1.5)},
        {"crop_ratio": (1.0,)},
        {"flip": 1.5},
        {"jitter": -0.1},
        {"brightness": math.inf},
        {"hue": 0.6},
        {"grayscale": math.nan},
        {"blur": (0.5, 0.5, 0.5)},
        {"solarize": (0.5, 2.0)},
        {"blur_sigma": (0.0, 1.0)},
        {"num_views": 0},
        {"image_size": 0},
        {"std": (1.0, 1.0)},
        {"std": (1.0, 0.0, 1.0)},
    ],
)
def test_bad_knobs_are_named(knobs):
    (name,) = knobs
    with pytest.raises(ValueError, match=name):
        Views(**({"image_size": 16, "mean": MEAN, "std": STD} | knobs))


@pytest.mark.parametrize("wanted", [1, 2, 5])
def test_any_number_of_views(wanted):
    make_views = Views(16, MEAN, STD)
    torch.manual_seed(0)
    made = random_views(make_views, photos(3), wanted)
    assert made.shape == (wanted, 3, 3, 16, 16)
    torch.manual_seed(0)
    assert torch.equal(made, torch.cat([make_views(photos(3)) for _ in range(3)])[:wanted])
    assert len(random_views(Views(16, MEAN, STD, num_views=1), photos(3), wanted)) == wanted


def test_no_views_are_refused():
    with pytest.raises(ValueError, match="num_views must be at least 1, got 0"):
        random_views(Views(16, MEAN, STD), photos(3), 0)
