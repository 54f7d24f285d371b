"""Data sources, views and loaders."""

from vje_pyro.data.arrays import (
    UNLABELLED,
    ImageArray,
    images_to_uint8,
    resize_images,
    stratified_order,
)
from vje_pyro.data.digits import Digits
from vje_pyro.data.files import ImageFiles, list_images, load_images
from vje_pyro.data.folders import ImageFolder, ImageNet
from vje_pyro.data.loaders import ResidentLoader, StreamingLoader, batches
from vje_pyro.data.mosaics import read_mosaics
from vje_pyro.data.selection import select_images
from vje_pyro.data.sources import DataSource
from vje_pyro.data.torchvision_sources import CIFAR10, CIFAR100, STL10, SVHN, FashionMNIST
from vje_pyro.data.views import Normalize, Views

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "STL10",
    "SVHN",
    "UNLABELLED",
    "DataSource",
    "Digits",
    "FashionMNIST",
    "ImageArray",
    "ImageFiles",
    "ImageFolder",
    "ImageNet",
    "Normalize",
    "ResidentLoader",
    "StreamingLoader",
    "Views",
    "batches",
    "images_to_uint8",
    "list_images",
    "load_images",
    "read_mosaics",
    "resize_images",
    "select_images",
    "stratified_order",
]
