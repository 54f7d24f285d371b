"""torchvision's ResNets as encoders, with the stem that fits the image size."""

import logging

from torch import Tensor, nn

from vje_pyro.ranges import ImageSize, PositiveInt

logger = logging.getLogger(__name__)

_SMALL_IMAGE = 64  # pixels; below this ImageNet's stem would leave next to nothing of the image


class ResNet(nn.Module):
    """A torchvision ResNet without its classifier.

    Images of up to 64 pixels get the small-image stem (3 × 3 convolution of stride 1, no pooling),
    as in the CIFAR experiments of Chen et al., "SimCLR" (arXiv 2002.05709, appendix B.9); larger
    ones get ImageNet's. Weights start at random.

    Args:
        name: ``resnet18``, ``resnet34`` or ``resnet50`` (any torchvision ResNet works).
        image_size: Side of the images in pixels.
        in_channels: Channels of the images.

    Raises:
        ValueError: If torchvision has no such ResNet.
    """

    def __init__(
        self, name: str = "resnet18", image_size: ImageSize = 224, in_channels: PositiveInt = 3
    ) -> None:
        from torchvision import models

        super().__init__()
        known = [n for n in models.list_models() if n.startswith("resnet")]
        if name not in known:
            raise ValueError(f"no ResNet named {name!r} in torchvision: choose from {known}.")
        network = models.get_model(name, weights=None)
        small = image_size <= _SMALL_IMAGE
        width = network.conv1.out_channels
        if small:
            network.conv1 = nn.Conv2d(in_channels, width, 3, stride=1, padding=1, bias=False)
            network.maxpool = nn.Identity()
        elif in_channels != 3:
            network.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        logger.info(
            "%s at %d px: %s stem", name, image_size, "small-image" if small else "ImageNet"
        )
        self.num_features = network.fc.in_features
        network.fc = nn.Identity()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` of images ``(B, C, H, W)``."""
        return self.network(images)
