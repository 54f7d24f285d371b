import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vje_pyro.encoders import ResNet, SmallResNet
from vje_pyro.encoders.pointwise import gather_before_pointwise

# glibc finds damage at the next free; since 2.34 only with this library.
DEBUG = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (1, 1)])
def test_a_gathered_convolution_is_the_convolution(stride, groups, size):
    torch.manual_seed(0)
    theirs = nn.Conv2d(5, 10, 1, stride, groups=groups, dtype=torch.float64)
    ours = copy.deepcopy(theirs)
    gather_before_pointwise(ours)
    assert ours.stride == (1, 1)
    x = torch.randn(3, 5, *size, dtype=torch.float64)
    for convolution in (ours, theirs):
        convolution(x).square().sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize(
    "safe",
    [
        nn.Conv2d(16, 4, 1, 2),
        nn.Conv2d(3, 4, 1, 1),
        nn.Conv2d(3, 4, 3, 2),
        nn.Conv2d(3, 4, 1, 2, padding=1),
        nn.Conv2d(32, 4, 1, 2, groups=2),
    ],
)
def test_other_convolutions_stay_what_they_are(safe):
    stride = safe.stride
    gather_before_pointwise(safe)
    assert safe.stride == stride
    assert not safe._forward_pre_hooks


def test_gathering_twice_gathers_once():
    torch.manual_seed(0)
    network = SmallResNet(widths=(4, 8), stem_width=4)
    x = torch.randn(2, 3, 9, 9)
    once = network(x)
    gather_before_pointwise(network)
    torch.testing.assert_close(network(x), once)


def test_resnets_have_no_narrow_shortcut():
    network = ResNet("resnet18", image_size=32)
    gather_before_pointwise(network)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_narrow_networks_leave_the_heap_alone():
    assert trained_under_a_debugging_allocator("1,2,4,7,12", "1,5", "8,9", isa="AVX2") == "right\n"


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
def test_all_narrow_networks_leave_the_heap_alone(isa):
    widths = ",".join(map(str, range(1, 17)))
    printed = trained_under_a_debugging_allocator(widths, "1,2,3,4,5", "5,9,16", isa=isa)
    assert printed == "right\n"


@pytest.mark.slow
def test_these_tests_leave_the_heap_alone():
    tests = [str(Path(__file__)), str(Path(__file__).with_name("test_encoders.py"))]
    assert " passed" in debugged("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, isa="AVX2")


def trained_under_a_debugging_allocator(*lists, isa):
    """What heap.py prints of lists of widths, batches and sizes."""
    return debugged(str(Path(__file__).with_name("heap.py")), *lists, isa=isa)


def debugged(*arguments, isa):
    """What Python prints with these arguments; oneDNN uses instructions up to ``isa``."""
    environment = os.environ | DEBUG | {"ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout
