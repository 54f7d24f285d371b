"""Features of a whole split: what every evaluation protocol starts from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import pil_to_tensor

from vje_pyro.data.arrays import ImageArray, resize_images
from vje_pyro.errors import NonFiniteError

EMBEDDINGS = {"encoder": "embed", "batch-norm": "encode"}
"""The features a method offers, and the method of it that computes them: the encoder's output,
and that after the batch norm where the method has one."""


class Split(Protocol):
    """What is asked of a split that is not in memory: images by index, and their labels."""

    labels: Tensor

    def __len__(self) -> int: ...

    def image(self, index: int, /) -> Any:
        """The image as Pillow decodes it."""

    def digest(self) -> str:
        """Hash of the split's content."""


@dataclass(frozen=True)
class Features:
    """Features of one split.

    Args:
        x: float32, shape ``(N, D)``.
        y: Classes, int64, shape ``(N,)``; -1 where unlabelled.
        digest: Digest of the split they were computed from; empty when unknown.

    Raises:
        ValueError: If the shapes do not fit together.
        NonFiniteError: If a feature is NaN or infinite.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    digest: str = ""

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.shape != (len(self.x),):
            raise ValueError(
                f"features must be (N, D) with labels (N,), got {self.x.shape} and {self.y.shape}"
            )
        finite = np.atleast_1d(np.isfinite(self.x).all(axis=1))
        if not finite.all():
            raise NonFiniteError(
                f"{np.count_nonzero(~finite)} of {len(finite)} images have a NaN or infinite "
                f"feature, the first is image {finite.argmin()}; use an earlier checkpoint"
            )

    def __len__(self) -> int:
        return len(self.x)


def extract(
    method: nn.Module,
    split: ImageArray | Split,
    normalize: Callable[[Tensor], Tensor],
    batch_size: int = 512,
    device: torch.device | str | None = None,
    *,
    features: str = "encoder",
    image_size: int | None = None,
    num_workers: int = 0,
) -> Features:
    """Compute a split's features in evaluation mode, in the split's order, without gradients.

    Every submodule's training mode is restored afterwards and no state (batch norm statistics)
    changes.

    Args:
        method: A method (:class:`vje_pyro.method.Method`).
        split: The images, in memory or decoded on demand.
        normalize: From uint8 images ``(B, C, H, W)`` to the method's input.
        batch_size: Images a batch; changes speed and memory, not the features (but for rounding).
        device: Where to compute; the method is moved there and stays. Where it is when None.
        features: One of :data:`EMBEDDINGS`.
        image_size: Pixels to which the central square of an image is resized when the split is
            decoded on demand; needed there, unused in memory.
        num_workers: Processes that decode when the split is not in memory.

    Raises:
        ValueError: If the method has no such features, or ``image_size`` is missing.
        NonFiniteError: If a feature is NaN or infinite.
    """
    embed = _embedding(method, features)
    device = next(method.parameters()).device if device is None else torch.device(device)
    method.to(device)
    if isinstance(normalize, nn.Module):
        normalize.to(device)
    with evaluating(method), torch.inference_mode():
        batches = _batches(split, batch_size, image_size, num_workers)
        parts = [embed(normalize(b.to(device))).float().cpu() for b in batches]
    labels = split.labels.cpu().numpy().astype(np.int64)
    return Features(torch.cat(parts).numpy(), labels, split.digest())


def pixels(split: ImageArray) -> Features:
    """The raw-pixel baseline: every image's pixels in [0, 1], flattened."""
    x = split.images.flatten(1).float() / 255
    return Features(x.cpu().numpy(), split.labels.cpu().numpy(), split.digest())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards each submodule's own mode again."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode


def _embedding(method: nn.Module, features: str) -> Callable[[Tensor], Tensor]:
    embed = getattr(method, EMBEDDINGS.get(features, ""), None)
    if embed is None:
        offered = [name for name, attribute in EMBEDDINGS.items() if hasattr(method, attribute)]
        raise ValueError(
            f"{type(method).__name__} has no features {features!r}; choose from {offered}"
        )
    result: Callable[[Tensor], Tensor] = embed
    return result


class _Decoded(Dataset[Tensor]):
    """Central squares of images decoded on demand, uint8 ``(C, size, size)``."""

    def __init__(self, split: Split, size: int) -> None:
        self.split = split
        self.size = size

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Tensor:
        return resize_images(pil_to_tensor(self.split.image(index))[None], self.size)[0]


def _batches(
    split: ImageArray | Split, batch_size: int, image_size: int | None, num_workers: int
) -> Iterator[Tensor]:
    if isinstance(split, ImageArray):
        yield from split.images.split(batch_size)
        return
    if image_size is None:
        raise ValueError("image_size is needed to extract features of images decoded on demand")
    yield from DataLoader(_Decoded(split, image_size), batch_size, num_workers=num_workers)
