"""Data sources, views and loaders."""

from vje_pyro.data.arrays import (
    UNLABELLED,
    ImageArray,
    images_to_uint8,
    resize_images,
    stratified_order,
)
from vje_pyro.data.batches import batches, select_images
from vje_pyro.data.cifar10h import read_label_entropy
from vje_pyro.data.digits import Digits
from vje_pyro.data.files import ImageFiles
from vje_pyro.data.folders import ImageFolder, ImageNet
from vje_pyro.data.given import load_images
from vje_pyro.data.loaders import ResidentLoader, StreamingLoader
from vje_pyro.data.one_class import OneClass
from vje_pyro.data.outliers import list_outliers, read_outliers
from vje_pyro.data.packing import pack_folder
from vje_pyro.data.searching import list_images
from vje_pyro.data.shard_index import ShardIndex, index_shards
from vje_pyro.data.shards import ShardFiles, WebDataset
from vje_pyro.data.sources import DataSource
from vje_pyro.data.torchvision_sources import CIFAR10, CIFAR100, STL10, SVHN, FashionMNIST
from vje_pyro.data.views import Normalize, Views, random_views

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
    "OneClass",
    "ResidentLoader",
    "ShardFiles",
    "ShardIndex",
    "StreamingLoader",
    "Views",
    "WebDataset",
    "batches",
    "images_to_uint8",
    "index_shards",
    "list_images",
    "list_outliers",
    "load_images",
    "pack_folder",
    "random_views",
    "read_label_entropy",
    "read_outliers",
    "resize_images",
    "select_images",
    "stratified_order",
]
