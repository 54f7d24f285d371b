"""The hook that a method with a teacher has: called once a step, and resumable."""

import pytest
import torch

from vje_pyro.encoders import EMATeacher, cosine_momentum
from vje_pyro.method import Loss


def make_method(toy):
    """The toy method, but its target is an EMA teacher's."""

    class TeacherMethod(toy.ToyMethod):
        def __init__(self):
            super().__init__()
            self.teacher = EMATeacher(torch.nn.Sequential(self.conv, self.norm))
            self.calls = []

        def loss(self, views):
            taught = self.teacher(views[1]).mean((2, 3))
            learnt = self.norm(self.conv(views[0])).mean((2, 3))
            return Loss(super().loss(views).total + (learnt - taught).square().mean())

        def after_step(self, progress):
            self.calls.append((progress, self.losses, self.norm.weight.grad is None))
            student = torch.nn.Sequential(self.conv, self.norm)
            self.teacher.update(student, cosine_momentum(0.8, progress))

    torch.manual_seed(0)
    return TeacherMethod()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_it_is_called_once_a_step_with_the_progress(tmp_path, toy, accumulate):
    method, _ = toy.train(tmp_path, make_method(toy), accumulate=accumulate)
    assert [progress for progress, _, _ in method.calls] == [k / 12 for k in range(1, 13)]
    assert [losses for _, losses, _ in method.calls] == [accumulate * k for k in range(1, 13)]
    assert all(updated for _, _, updated in method.calls)  # the optimiser has used the gradient


def test_progress_ends_with_a_run_made_short(tmp_path, toy):
    method, _ = toy.train(tmp_path, make_method(toy), max_steps=5)
    assert [progress for progress, _, _ in method.calls] == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("step", [2, 7])
def test_a_resumed_run_has_the_same_teacher_bit_for_bit(tmp_path, toy, step):
    calls = []

    def failing(images):
        calls.append(1)
        if len(calls) == step:
            raise RuntimeError("stopped by the test")
        return toy.views(images)

    settings = {"checkpoint_every_steps": 1}
    whole, _ = toy.train(tmp_path / "whole", make_method(toy), **settings)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        toy.train(tmp_path / "cut", make_method(toy), make_views=failing, **settings)
    fresh = make_method(toy)
    resumed, _ = toy.train(tmp_path / "cut", fresh, resume=True, **settings)
    assert toy.same_state(whole.state_dict(), resumed.state_dict())
    assert "teacher.module.0.weight" in whole.state_dict()
    assert [c[0] for c in resumed.calls] == [c[0] for c in whole.calls[step - 1 :]]


def test_the_teacher_lags_behind_its_student(tmp_path, toy):
    start = make_method(toy).conv.weight.detach()
    method, _ = toy.train(tmp_path, make_method(toy))
    student, teacher = method.conv.weight.detach(), method.teacher.module[0].weight
    assert 0 < (teacher - start).norm() < (student - start).norm()
