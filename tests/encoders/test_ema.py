"""The EMA teacher: what moves, what does not, and that it survives a checkpoint."""

import math

import pytest
import torch
from torch import nn

from vje_pyro.encoders import EMATeacher, SmallResNet, cosine_momentum
from vje_pyro.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vje_pyro.training.optim import param_groups


def make_student():
    torch.manual_seed(0)
    return SmallResNet(1, widths=(4, 8), stem_width=4)


def moved(student):
    """The student somewhere else, weights and batch statistics."""
    with torch.no_grad():
        for tensor in student.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return student


def test_it_starts_as_its_student_and_shares_nothing_with_it():
    student = make_student()
    teacher = EMATeacher(student)
    images = torch.randn(6, 1, 8, 8)
    assert torch.equal(teacher(images), student(images))
    before = [p.clone() for p in teacher.parameters()]
    moved(student)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 1.0])
def test_the_update_is_the_moving_average(momentum):
    student = make_student()
    teacher = EMATeacher(student)
    moved(student)
    before = [p.double() for p in teacher.parameters()]
    teacher.update(student, momentum)
    for old, new, target in zip(before, teacher.parameters(), student.parameters(), strict=True):
        expected = momentum * old + (1 - momentum) * target.double()
        torch.testing.assert_close(new.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_update_changes_neither_student_nor_batch_statistics():
    student = moved(make_student())
    teacher = EMATeacher(make_student())
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    statistics = {name: value.clone() for name, value in teacher.named_buffers()}
    assert statistics
    teacher.update(student, 0.5)
    assert all(torch.equal(weights[n], v) for n, v in student.state_dict().items())
    assert all(torch.equal(statistics[n], v) for n, v in teacher.named_buffers())


def test_its_batch_statistics_are_its_own():
    student = make_student()
    teacher = EMATeacher(student)
    student(torch.randn(6, 1, 8, 8))
    assert float(teacher.module.stem[1].running_mean.abs().sum()) == 0  # those of no batch yet
    images = 3 + torch.randn(6, 1, 8, 8)
    expected = 0.1 * teacher.module.stem[0](images).mean((0, 2, 3))
    teacher(images)
    torch.testing.assert_close(teacher.module.stem[1].running_mean, expected)


def test_no_gradient_and_no_optimiser_reaches_it():
    student = make_student()
    module = nn.ModuleDict({"student": student, "teacher": EMATeacher(student)})
    images = torch.randn(6, 1, 8, 8, requires_grad=True)
    target = module["teacher"](images)
    assert not target.requires_grad
    (module["student"](images) - target).square().sum().backward()
    assert all(p.grad is None for p in module["teacher"].parameters())
    assert all(p.grad is not None for p in student.parameters())
    trained = [p for group in param_groups(module) for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in student.parameters()}


def test_a_checkpoint_keeps_it(tmp_path):
    student = make_student()
    teacher = EMATeacher(student)
    teacher.update(moved(student), 0.5)
    teacher(torch.randn(6, 1, 8, 8))
    save_checkpoint(Checkpoint(1, 0, teacher.state_dict()), tmp_path / "t.safetensors")
    again = EMATeacher(make_student())
    again.load_state_dict(load_checkpoint(tmp_path / "t.safetensors").model)
    assert len(again.state_dict()) == len(student.state_dict())
    for name, value in teacher.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_a_momentum_out_of_range_is_refused(momentum):
    student = make_student()
    with pytest.raises(ValueError, match=r"momentum of a teacher must be in \[0, 1\]"):
        EMATeacher(student).update(student, momentum)


def test_a_stranger_is_refused():
    with pytest.raises(ValueError, match=r"its student, a Linear, 2, or their shapes differ"):
        EMATeacher(make_student()).update(nn.Linear(2, 2), 0.5)


def test_the_momentum_follows_the_formula_of_the_paper():
    steps = [cosine_momentum(0.996, k / 1000) for k in range(1001)]
    expected = [1 - (1 - 0.996) * (math.cos(math.pi * k / 1000) + 1) / 2 for k in range(1001)]
    assert steps == pytest.approx(expected, abs=1e-15)
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (pytest.approx(0.996), 1.0)
