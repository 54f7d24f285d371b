"""A folder of pictures as a user may have it: any sizes, any formats, and some noise."""

import numpy as np
from PIL import Image, ImageDraw

SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".jpeg", ".ppm", ".tga", ".jp2")


def make_pictures(folder, count=200, noise=5, sides=(64, 400), seed=0):
    """Pictures of shapes on a gradient, and noise, each of its own size; ``noise_…`` are noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        width, height = rng.integers(*sides, 2).tolist()
        is_noise = number >= count - noise
        image = _noise(rng, width, height) if is_noise else _shapes(rng, width, height)
        name = "noise" if is_noise else "picture"
        image.save(folder / f"{name}_{number:03d}{SUFFIXES[number % len(SUFFIXES)]}")
    return folder


def _noise(rng, width, height):
    return Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


def _shapes(rng, width, height):
    top, bottom = rng.integers(40, 216, (2, 3))
    share = np.linspace(0, 1, height)[:, None, None]
    pixels = np.broadcast_to(top * (1 - share) + bottom * share, (height, width, 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        reach = rng.uniform(0.1, 0.3) * min(width, height)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        colour = tuple(rng.integers(0, 256, 3).tolist())
        shape([x - reach, y - reach, x + reach, y + reach], fill=colour)
    return image
