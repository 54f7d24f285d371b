"""Encoders: plain modules from images (B, C, H, W) to (B, num_features)."""

from vje_pyro.encoders.resnet import ResNet
from vje_pyro.encoders.small_resnet import SmallResNet
from vje_pyro.encoders.timm import TimmEncoder

__all__ = ["ResNet", "SmallResNet", "TimmEncoder"]
