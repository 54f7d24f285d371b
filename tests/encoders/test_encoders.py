import logging

import pytest
import torch

from vje_pyro.encoders import ResNet, SmallResNet, TimmEncoder
from vje_pyro.encoders.small_resnet import _Conv3x3
from vje_pyro.errors import VJEError


@pytest.mark.parametrize(
    ("encoder", "size", "channels", "num_features"),
    [
        (lambda: SmallResNet(widths=(8, 16)), 8, 3, 16),
        (lambda: SmallResNet(in_channels=1, widths=(8,)), 9, 1, 8),
        (lambda: ResNet("resnet18", image_size=32), 32, 3, 512),
        (lambda: ResNet("resnet34", image_size=32, in_channels=1), 32, 1, 512),
        (lambda: ResNet("resnet50", image_size=96, in_channels=1), 96, 1, 2048),
    ],
)
def test_embeddings_have_num_features(encoder, size, channels, num_features):
    torch.manual_seed(0)
    encoder = encoder()
    assert encoder.num_features == num_features
    images = torch.randn(2, channels, size, size)
    assert encoder(images).shape == (2, num_features)
    encoder(images).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize(
    ("size", "stem"), [(32, "small-image"), (64, "small-image"), (96, "ImageNet")]
)
def test_the_stem_follows_the_image_size_and_is_logged(size, stem, caplog):
    with caplog.at_level(logging.INFO):
        encoder = ResNet("resnet18", image_size=size)
    assert f"at {size} px: {stem} stem" in caplog.text
    stride = encoder.network.conv1.stride[0]
    assert stride == (1 if stem == "small-image" else 2)
    assert isinstance(encoder.network.maxpool, torch.nn.MaxPool2d) == (stem == "ImageNet")


def test_every_block_halves_the_image():
    encoder = SmallResNet(widths=(4, 8, 16))
    x = encoder.stem(torch.randn(1, 3, 16, 16))
    sizes = [x.shape[-1]]
    for stage in encoder.stages:
        x = stage(x)
        sizes.append(x.shape[-1])
    assert sizes == [16, 8, 4, 2]


def test_timm_models_are_encoders():
    pytest.importorskip("timm", reason="timm is an extra")
    encoder = TimmEncoder("resnet10t", in_channels=1)
    assert encoder(torch.randn(2, 1, 32, 32)).shape == (2, encoder.num_features)
    with pytest.raises(VJEError, match="timm has no model 'resnett10'; similar names"):
        TimmEncoder("resnett10")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="no ResNet named 'resnet19' in torchvision: choose from"):
        ResNet("resnet19")
    with pytest.raises(ValueError, match=r"positive sizes, got in_channels=0"):
        SmallResNet(in_channels=0)
    with pytest.raises(ValueError, match=r"widths=\(\)"):
        SmallResNet(widths=())


@pytest.mark.parametrize(
    ("size", "stride"), [((2, 2), 1), ((4, 4), 2), ((3, 4), 2), ((1, 4), 1), ((1, 1), 1)]
)
def test_the_convolution_of_a_small_map_is_the_convolution(size, stride):
    torch.manual_seed(0)
    ours = _Conv3x3(5, 7, 3, stride, padding=1, bias=False, dtype=torch.float64)
    theirs = torch.nn.Conv2d(5, 7, 3, stride, padding=1, bias=False, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, *size, dtype=torch.float64)
    for convolution in (ours, theirs):
        convolution(x).square().sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
