from itertools import pairwise

import pytest
import torch
from pyro.distributions import LowRankMultivariateNormal, Normal

from vje_pyro.errors import NonFiniteError
from vje_pyro.inference import product_of_experts, stack_views
from vje_pyro.inference.experts import leave_one_out

V, B, D = 4, 3, 5
EVERY = torch.ones(V, 1, B, dtype=torch.bool)
PRIOR = Normal(torch.zeros(D), 1.0).to_event(1)


def conjugate_experts(x, variance):
    """Posteriors of z ~ N(0, 1) from one observation x ~ N(z, variance) each, ``(V B, D)``."""
    scale = (variance / (1 + variance)) ** 0.5
    return Normal((x / (1 + variance)).flatten(0, 1), scale).to_event(1)


def test_the_product_is_the_exact_posterior_of_a_conjugate_model():
    x, v = torch.randn(V, B, D, dtype=torch.double), 0.7
    q = product_of_experts(conjugate_experts(x, v), PRIOR, EVERY)
    precision = 1 + V / v
    torch.testing.assert_close(q.mean, x.sum(0) / v / precision)
    # Of k views the variance is v/(k + v).
    torch.testing.assert_close(q.variance, torch.full((B, D), v / (V + v), dtype=torch.double))


def test_one_view_gives_back_its_own_posterior():
    experts = Normal(torch.randn(V * B, D), 0.1 + 0.8 * torch.rand(V * B, D)).to_event(1)
    one = torch.arange(V)[:, None, None] == torch.arange(V)[None, :, None]
    q = product_of_experts(experts, PRIOR, one.expand(V, V, B))
    torch.testing.assert_close(q.mean, experts.mean)
    torch.testing.assert_close(q.stddev, experts.stddev)


def test_no_view_gives_the_prior():
    q = product_of_experts(conjugate_experts(torch.randn(V, B, D), 0.5), PRIOR, ~EVERY)
    torch.testing.assert_close(q.mean, torch.zeros(B, D))
    torch.testing.assert_close(q.stddev, torch.ones(B, D))


def test_a_view_that_is_missing_does_not_count():
    x = torch.randn(V, B, D)
    some = EVERY.clone()
    some[2] = False
    left = product_of_experts(conjugate_experts(x, 0.5), PRIOR, some)
    without = conjugate_experts(x[[0, 1, 3]], 0.5)
    expected = product_of_experts(without, PRIOR, EVERY[:3])
    torch.testing.assert_close(left.mean, expected.mean)
    torch.testing.assert_close(left.stddev, expected.stddev)


def test_more_views_never_widen_the_posterior_even_of_experts_wider_than_the_prior():
    experts = Normal(torch.randn(V * B, D), 3.0 * torch.rand(V * B, D)).to_event(1)
    widths = []
    for number in range(1, V + 1):
        some = (torch.arange(V) < number)[:, None, None].expand(V, 1, B)
        widths.append(product_of_experts(experts, PRIOR, some).stddev)
    assert all((b <= a).all() for a, b in pairwise(widths))
    assert (widths[0] <= 1).all()


def test_the_scale_of_a_view_is_what_the_others_say():
    scale = 0.5 + torch.rand(3, B, D)
    others = leave_one_out(scale, torch.ones(3, 1, B, dtype=torch.bool))[:, 0]
    expected = (0.5 * (scale[1].pow(-2) + scale[2].pow(-2))).rsqrt()
    torch.testing.assert_close(others[0], expected)
    alone = leave_one_out(scale, (torch.arange(3) == 1)[:, None, None].expand(3, 1, B))[:, 0]
    torch.testing.assert_close(alone[1], scale[1])
    torch.testing.assert_close(alone[0], scale[1])


def test_other_families_are_refused():
    factor = LowRankMultivariateNormal(
        torch.zeros(V * B, D), torch.ones(V * B, D, 1), torch.ones(D)
    )
    with pytest.raises(ValueError, match=r"the experts are LowRank.*guide=diagonal_normal"):
        product_of_experts(factor, PRIOR, EVERY)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([], r"shapes \[\]: leave out images that lack a view"),
        ([torch.zeros(2, D), None], r"\[\(2, 5\), None\]"),
        ([torch.zeros(2, D), torch.zeros(1, D)], r"\[\(2, 5\), \(1, 5\)\]"),
    ],
)
def test_views_of_which_some_are_missing_are_refused(views, message):
    with pytest.raises(ValueError, match=message):
        stack_views(views)


def test_a_view_that_is_not_finite_is_named():
    views = torch.zeros(V, B, D)
    views[2, 1, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=f"1 of {V * B} views .* is view 2 of image 1"):
        stack_views(views)
    assert torch.equal(stack_views(list(views[:2])), views[:2])
