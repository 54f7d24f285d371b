"""Encoders: plain modules from images (B, C, H, W) to (B, num_features), and their EMA teacher."""

from vje_pyro.encoders.ema import EMATeacher, cosine_momentum
from vje_pyro.encoders.identity import Identity
from vje_pyro.encoders.resnet import ResNet
from vje_pyro.encoders.small_resnet import SmallResNet
from vje_pyro.encoders.timm import TimmEncoder

__all__ = ["EMATeacher", "Identity", "ResNet", "SmallResNet", "TimmEncoder", "cosine_momentum"]
