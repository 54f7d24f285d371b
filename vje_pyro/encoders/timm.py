"""Any timm model as an encoder (extra ``timm``)."""

from typing import Any

from torch import Tensor, nn

from vje_pyro.errors import VJEError
from vje_pyro.ranges import PositiveInt


class TimmEncoder(nn.Module):
    """A timm model without its classifier.

    Args:
        name: Name of a timm model, such as ``convnext_atto`` or ``vit_tiny_patch16_224``.
        in_channels: Channels of the images.
        **kwargs: Passed on to ``timm.create_model`` (``img_size`` of a vision transformer, say).

    Raises:
        VJEError: If timm is not installed, or knows no such model.
    """

    def __init__(self, name: str, in_channels: PositiveInt = 3, **kwargs: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise VJEError(
                "timm is not installed: pip install 'vje-pyro[timm]', or choose encoder=resnet."
            ) from error
        if not timm.is_model(name):
            similar = timm.list_models(f"*{name[:6]}*")[:5]
            raise VJEError(f"timm has no model {name!r}; similar names: {similar}.")
        self.network = timm.create_model(name, in_chans=in_channels, num_classes=0, **kwargs)
        self.num_features = self.network.num_features

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` of images ``(B, C, H, W)``."""
        return self.network(images)
