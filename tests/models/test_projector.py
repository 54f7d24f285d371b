"""A generative projector: the model is of e = g(h), and h are the features."""

from functools import partial

import pytest
import torch
from small import D, Encoder, gradients

from vje_pyro.distributions import SphericalStudentT
from vje_pyro.guides import DiagonalNormal
from vje_pyro.models import VJE


def make(**options):
    torch.manual_seed(0)
    guide = partial(DiagonalNormal, hidden_features=8)
    return VJE(Encoder(), guide, partial(SphericalStudentT, df=1.0), None, **options)


@pytest.fixture
def views():
    torch.manual_seed(1)
    return torch.randn(2, 16, 3, 4, 4)


def test_the_model_is_of_the_projection_and_the_features_are_before_it(views):
    method = make(projector_dim=5).eval()
    features = method.encoder(views[0])
    assert torch.equal(method.embed(views[0]), features)
    assert torch.equal(method.encode(views[0]), method.norm(method.projector(features)))
    assert [tuple(p.shape) for p in method.projector.parameters() if p.dim() > 1] == [
        (5, D),
        (D, 5),
    ]


def test_without_one_nothing_changes(views):
    plain, none = make(), make(projector_dim=None)
    assert none.projector is None
    assert plain.state_dict().keys() == none.state_dict().keys()


def test_gradient_reaches_projector_and_encoder(views):
    method = make(projector_dim=5)
    method.loss(views).total.backward()
    found = gradients(method)
    assert found["encoder.linear.weight"].abs().sum() > 0
    for name, gradient in found.items():
        # The batch norm after the projector takes its last bias away.
        assert (gradient.abs().sum() > 1e-6) == (
            name not in {"encoder.linear.bias", "projector.3.bias"}
        )


def test_a_teacher_has_a_projector_too(views):
    method = make(projector_dim=5, target_momentum=0.0)
    with torch.no_grad():
        method.projector[0].weight.mul_(2)
    assert not torch.equal(method.teacher.module[1][0].weight, method.projector[0].weight)
    method.after_step(0.0)
    assert torch.equal(method.teacher.module[1][0].weight, method.projector[0].weight)


def test_a_hidden_width_is_positive():
    with pytest.raises(ValueError, match="hidden_features must be positive"):
        make(projector_dim=0)
