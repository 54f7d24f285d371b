"""The classes of methods: what is refused, and with which words."""

import pytest
import torch
from torch import nn

from vje_pyro.encoders import Identity
from vje_pyro.errors import VJEError
from vje_pyro.method import Loss, Method, ProbabilisticMethod, require


class Plain(Method):
    def loss(self, views):
        return Loss(self.embed(views[0]).square().mean())


def test_of_an_encoder_it_has_dimension_and_embeddings():
    method = Plain(Identity(3))
    assert method.num_features == 3
    embeddings = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(method.embed(embeddings), embeddings.float())
    assert not method.uses_labels


def test_what_is_missing_is_named():
    with pytest.raises(TypeError, match=r"abstract method '?loss"):
        Method(Identity(3))
    with pytest.raises(TypeError, match="infer"):
        ProbabilisticMethod(Identity(3))


@pytest.mark.parametrize(("num_features", "got"), [(None, "None"), (0, "0"), ("8", "'8'")])
def test_an_encoder_says_its_dimension(num_features, got):
    encoder = nn.Linear(3, 3)
    encoder.num_features = num_features
    with pytest.raises(ValueError, match=f"Linear must give .* num_features, .* got {got}"):
        Plain(encoder)


def test_a_kind_of_method_is_required():
    method = Plain(Identity(3))
    assert require(method, Method) is method
    with pytest.raises(VJEError, match="Plain has no posterior: it is not probabilistic"):
        require(method, ProbabilisticMethod)
    with pytest.raises(
        VJEError, match=r"Linear is not a method: it must inherit from vje_pyro\.method"
    ):
        require(nn.Linear(3, 3), Method)
