"""Pictures of a report: which images to show, and images as ``data:`` addresses."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import resize, to_pil_image
from torchvision.utils import make_grid

from vje_pyro.evaluation.knn import nearest
from vje_pyro.report.collect import SEED, Floats, Sample

THUMBNAIL = 96
"""Longest side in pixels of a picture in the report; larger images are reduced to it."""

TILE = 48
"""Longest side in pixels of an image that the map shows on a hover."""


@dataclass(frozen=True)
class Picture:
    """An image to show.

    Args:
        uri: ``data:`` address.
        width: Pixels.
        height: Pixels.
        label: Class in words, "" where unknown.
        note: A figure to write below it.
        right: Whether its label is that of the query; None where that has no meaning.
    """

    uri: str
    width: int
    height: int
    label: str
    note: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class Neighbours:
    """A query image and its nearest images in the bank."""

    query: Picture
    found: list[Picture]


@dataclass(frozen=True)
class Thumbnails:
    """Many images in one, square tiles row by row, for the script that shows one at a time."""

    uri: str
    side: int
    columns: int


def photograph(image: Image.Image, label: str, note: str = "") -> Picture:
    """An image of any size, ready to show; it is made smaller in place."""
    image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    return Picture(_uri(image, "WEBP", quality=80), image.width, image.height, label, note)


def picture(sample: Sample, row: int, note: str = "", right: bool | None = None) -> Picture:
    """The image of a row of the sample, ready to show."""
    image = _image(sample.pictures([row])[0])
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    label = sample.class_name(int(sample.labels[row])) if sample.labelled else ""
    return Picture(_uri(image, "PNG"), image.width, image.height, label, note, right)


def thumbnails(sample: Sample, rows: NDArray[np.int64]) -> Thumbnails:
    """The images of some rows of the sample as one sheet of small ones."""
    side = min(sample.image_size, TILE)
    columns = math.ceil(math.sqrt(len(rows)))
    parts = [
        resize(sample.pictures(part), [side, side])
        for part in np.array_split(rows, math.ceil(len(rows) / 256))
    ]
    sheet = make_grid(_shown(torch.cat(parts)), nrow=columns, padding=0)
    return Thumbnails(_uri(to_pil_image(sheet), "WEBP", quality=70), side, columns)


def _shown(images: Tensor) -> Tensor:
    """Grey, or the first three channels, of images ``(n, C, H, W)``."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1]


def _image(pixels: Tensor) -> Image.Image:
    return to_pil_image(_shown(pixels[None])[0])


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, optimize=True, **options)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"


def entropy(scale: Floats) -> Floats:
    """Differential entropy in nats ``(n,)`` of diagonal Gaussians with scales ``(n, D)``."""
    constant = 0.5 * scale.shape[1] * np.log(2 * np.pi * np.e)
    return constant + np.log(scale.astype(np.float64)).sum(axis=1)


def extremes(sample: Sample, count: int = 12) -> tuple[list[Picture], list[Picture]]:
    """The images of lowest and of highest posterior entropy, most extreme first."""
    assert sample.scale is not None
    nats = entropy(sample.scale)
    order = np.argsort(nats, kind="stable")
    count = min(count, len(order) // 2)

    def show(rows: NDArray[np.int64]) -> list[Picture]:
        return [picture(sample, int(row), f"{nats[row]:.1f}") for row in rows]

    return show(order[:count]), show(order[::-1][:count])


def neighbours(
    queries: Sample, bank: Sample, rows: NDArray[np.int64], count: int = 8
) -> list[Neighbours]:
    """The nearest images in ``bank``, by cosine similarity, of some images of ``queries``."""
    similarity, places = _nearest(queries, bank, rows, count)
    found = []
    for row, near, values in zip(rows, places, similarity, strict=True):
        label = queries.labels[row]
        pictures = []
        for place, value in zip(near, values, strict=True):
            known = label >= 0 and bank.labels[place] >= 0
            right = bool(bank.labels[place] == label) if known else None
            pictures.append(picture(bank, place, f"{value:.3f}", right))
        found.append(Neighbours(picture(queries, int(row)), pictures))
    return found


def agreement(queries: Sample, bank: Sample, count: int = 8) -> float | None:
    """Mean share of the nearest images with the label of the query, over all labelled queries."""
    rows = np.flatnonzero(queries.labels >= 0)
    if not len(rows) or not (bank.labels >= 0).all() or len(bank) <= count:
        return None
    near = _nearest(queries, bank, rows, count)[1]
    return float((bank.labels[near] == queries.labels[rows, None]).mean())


def choose_queries(sample: Sample, count: int = 10) -> NDArray[np.int64]:
    """Rows drawn at random with a fixed seed, as evenly over the classes as their number allows."""
    rows = np.random.default_rng(SEED).permutation(len(sample))
    turn = np.zeros(len(rows), dtype=np.int64)  # how many of its class came before each row
    seen: dict[int, int] = {}
    for position, label in enumerate(sample.labels[rows]):
        turn[position] = seen.get(int(label), 0)
        seen[int(label)] = turn[position] + 1
    chosen = rows[np.argsort(turn, kind="stable")[:count]]
    return chosen[np.argsort(sample.labels[chosen], kind="stable")]


def _nearest(
    queries: Sample, bank: Sample, rows: NDArray[np.int64], count: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Cosine similarities and places in the bank, ``(n, count)``; no image is its own neighbour."""
    of_queries, of_bank = (torch.from_numpy(x.embeddings) for x in (queries, bank))
    found = nearest(of_queries[rows], of_bank, min(count + 1, len(bank)))
    similarity, places = (part.numpy() for part in found)
    same = queries.name == bank.name
    own = same & (bank.indices[places] == queries.indices[rows, None])
    order = np.argsort(own, axis=1, kind="stable")[:, : min(count, len(bank) - same)]
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(places, order, 1)
