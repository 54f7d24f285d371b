import pytest
import torch

from vje_pyro.guides import DiagonalNormal


def test_posterior_is_a_diagonal_normal_of_the_right_shape():
    torch.manual_seed(0)
    guide = DiagonalNormal(8, hidden_features=16)
    q = guide.infer(torch.randn(5, 8)).posterior
    assert q.batch_shape == (5,)
    assert q.event_shape == (8,)
    assert 0.3 < q.stddev.mean() < 3  # a fresh network starts near the prior's scale


def test_scales_stay_within_their_bounds_and_the_hits_are_counted():
    guide = DiagonalNormal(8, num_layers=0, min_scale=0.1, max_scale=2.0)
    guide.network[-1].weight.data.zero_()
    raw = guide.network[-1].bias.data
    raw[8:] = torch.tensor([-1e3, -100.0, 1e3, 100.0, 0.0, -0.5, 0.2, -1.0])
    q = guide.infer(torch.zeros(1, 8)).posterior
    assert (q.stddev >= 0.1 - 1e-6).all()
    assert (q.stddev <= 2.0 + 1e-6).all()
    assert guide.bound_fraction(q.stddev).item() == pytest.approx(4 / 8)


def test_the_bound_is_soft():
    guide = DiagonalNormal(3, num_layers=0, min_scale=0.1, max_scale=2.0)
    guide.network[-1].weight.data.zero_()
    guide.network[-1].bias.data.fill_(3.0)
    guide.infer(torch.zeros(1, 3)).scale.sum().backward()
    assert (guide.network[-1].bias.grad[3:] > 0).all()


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_layers_are_counted(num_layers):
    guide = DiagonalNormal(4, hidden_features=8, num_layers=num_layers)
    linear = [m for m in guide.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linear) == num_layers + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_scale": 0.0}, "0 < min_scale < max_scale, got 0.0"),
        ({"min_scale": 2.0, "max_scale": 1.0}, "got 2.0 and 1.0"),
        ({"hidden_features": 0}, "hidden_features must be positive"),
        ({"num_layers": -1}, "num_layers not negative"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiagonalNormal(4, **arguments)
