"""lightly's SimSiam and VICReg as its documentation trains them, with another encoder.

Data set of PIL images, lightly's transforms in the workers of a DataLoader, its heads and losses,
SGD: docs.lightly.ai/examples/simsiam.html and …/vicreg.html (lightly 1.6). Head sizes, learning
rate and what the loader is told are theirs; the encoder, the batch size and the number of workers
are the caller's.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, VICRegLoss
from lightly.models.modules import heads
from lightly.transforms import SimSiamTransform, VICRegTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class PilImages(Dataset):
    """Images as torchvision's CIFAR10 gives them: from an array to PIL to the transform."""

    def __init__(self, images: Tensor, transform: Callable[[Image.Image], Any]) -> None:
        self.arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.arrays[index]))


class SimSiam(nn.Module):
    """The example's model."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = heads.SimSiamProjectionHead(encoder.num_features, 512, 128)
        self.prediction = heads.SimSiamPredictionHead(128, 64, 128)
        self.criterion = NegativeCosineSimilarity()

    transform = SimSiamTransform

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Symmetric loss of two views."""
        z0, z1 = (self.projection(self.encoder(x)) for x in (first, second))
        p0, p1 = self.prediction(z0), self.prediction(z1)
        return 0.5 * (self.criterion(z0.detach(), p1) + self.criterion(z1.detach(), p0))


class VICReg(nn.Module):
    """The example's model."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = heads.VICRegProjectionHead(encoder.num_features, 2048, 2048, num_layers=2)
        self.criterion = VICRegLoss()

    transform = VICRegTransform

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Loss of two views."""
        return self.criterion(*(self.projection(self.encoder(x)) for x in (first, second)))


class Peer:
    """Training of one of the models, a call of :meth:`step` a step.

    Args:
        model: One of the above.
        images: uint8 images ``(N, 3, H, W)``.
        image_size: Side of the views.
        batch: Images of a step.
        num_workers: Of the DataLoader.
    """

    def __init__(
        self, model: SimSiam | VICReg, images: Tensor, image_size: int, batch: int, num_workers: int
    ) -> None:
        self.model = model
        self.loader = DataLoader(
            PilImages(images, model.transform(input_size=image_size)),
            batch_size=batch,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
        self.batches = self._batches()

    def _batches(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> None:
        """One step of the example's loop."""
        loss = self.model.loss(*next(self.batches))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
