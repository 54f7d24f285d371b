import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn.functional import normalize

from vje_pyro.distributions import SphericalStudentT

DOUBLE = torch.float64


def log_area(dim):
    """Log surface area of the unit sphere in ``dim`` dimensions."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def make(dim, scale=0.3, df=1.0, *, seed=0, dtype=DOUBLE, spread=1.0, **kwargs):
    """A law with unequal scales around ``scale``."""
    generator = torch.Generator().manual_seed(seed)
    loc = normalize(torch.randn(dim, dtype=dtype, generator=generator), dim=-1)
    scales = scale * torch.exp(spread * (torch.rand(dim, dtype=dtype, generator=generator) - 0.5))
    return SphericalStudentT(loc, scales, df, **kwargs)


def sphere_grid(num_cosine=400, num_azimuth=400):
    """Quadrature nodes and weights on S²: Gauss–Legendre in cos θ, trapezoid in the azimuth."""
    cosine, weight = np.polynomial.legendre.leggauss(num_cosine)
    azimuth = 2 * np.pi * np.arange(num_azimuth) / num_azimuth
    c, a = np.meshgrid(cosine, azimuth, indexing="ij")
    s = np.sqrt(1 - c**2)
    points = np.stack([s * np.cos(a), s * np.sin(a), c], axis=-1).reshape(-1, 3)
    weights = np.repeat(weight, num_azimuth) * 2 * np.pi / num_azimuth
    return torch.from_numpy(points), torch.from_numpy(weights)


def rotated(points, pole):
    """Points reflected so that the grid's pole comes to ``pole``: fine where the density peaks."""
    axis = normalize(torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE) - pole, dim=0)
    return points - 2 * (points @ axis)[:, None] * axis


def explicit_log_prob(value, loc, scale, df):
    """The formula with an explicit basis of the tangent plane and dense matrices."""
    dim = len(loc) - 1
    basis = torch.linalg.svd(loc[None], full_matrices=True).Vh[1:].T
    precision = basis.T @ torch.diag(scale**-2) @ basis
    cosine = value @ loc
    tangent = value - cosine[:, None] * loc
    w = normalize(tangent, dim=-1) * (value - loc).norm(dim=-1, keepdim=True) @ basis
    quadratic = torch.einsum("ni,ij,nj->n", w, precision, w)
    return (
        math.lgamma((df + dim) / 2) - math.lgamma(df / 2) - dim / 2 * math.log(df * math.pi)
        + 0.5 * torch.logdet(precision) - (df + dim) / 2 * torch.log1p(quadratic / df)
    )  # fmt: skip


@pytest.mark.parametrize("dim", [3, 4, 16, 64])
@pytest.mark.parametrize("df", [0.5, 1.0, 10.0])
def test_log_prob_is_the_tangent_student_t(dim, df):
    d = make(dim, df=df)
    value = normalize(torch.randn(200, dim, dtype=DOUBLE), dim=-1)
    torch.testing.assert_close(
        d.log_prob(value), explicit_log_prob(value, d.loc, d.scale, df), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("df", [1.0, 5.0])
def test_integrates_on_the_sphere_in_three_dimensions(scale, df):
    points, weights = sphere_grid()
    d = make(3, scale, df)
    points = rotated(points, d.loc)
    mass = (d.log_prob(points).exp() * weights).sum().item()
    reference = make(3, scale, df, normalized=True)
    assert (reference.log_prob(points).exp() * weights).sum().item() == pytest.approx(1, abs=1e-6)
    # For D = 3 the map preserves area: the missing mass is exactly the tail that was cut.
    assert mass == pytest.approx(d.log_acceptance.exp().item(), abs=1e-6)
    assert mass < 1


@pytest.mark.parametrize("dim", [4, 6])
@pytest.mark.parametrize("df", [1.0, 5.0])
def test_integrates_by_monte_carlo_above_three_dimensions(dim, df):
    torch.manual_seed(0)
    uniform = normalize(torch.randn(400_000, dim, dtype=DOUBLE), dim=-1)
    area = math.exp(log_area(dim))
    reference = make(dim, 0.5, df, normalized=True).log_prob(uniform).exp() * area
    error = reference.std().item() / math.sqrt(len(uniform))
    assert abs(reference.mean().item() - 1) < 4 * error < 0.03
    subdensity = make(dim, 0.5, df).log_prob(uniform).exp() * area
    assert subdensity.mean().item() < 1 - 4 * error


@pytest.mark.parametrize(("dim", "df"), [(3, 1.0), (3, 8.0), (5, 2.0)])
def test_samples_follow_the_reference(dim, df):
    """Chi-square of the tangent vector's squared radius and of its angle in a plane."""
    torch.manual_seed(3)
    d = SphericalStudentT(torch.eye(dim, dtype=DOUBLE)[0], 0.4, df, normalized=True)
    u = d.sample((20_000,))
    chord = (u - d.loc).norm(dim=-1)
    # ‖w‖²/(dim−1)/τ² of an isotropic Student-t is F distributed; here truncated to ‖w‖ ≤ 2.
    law = scipy.stats.f(dim - 1, df)
    cdf = law.cdf(chord.square().numpy() / (dim - 1) / 0.4**2) / law.cdf(4 / (dim - 1) / 0.4**2)
    assert scipy.stats.kstest(cdf, "uniform").pvalue > 1e-3
    angle = torch.atan2(u[:, 1], u[:, 2]).numpy()
    assert scipy.stats.kstest(angle / (2 * math.pi) + 0.5, "uniform").pvalue > 1e-3


def test_samples_with_unequal_scales_follow_the_density():
    torch.manual_seed(4)
    d = make(3, 0.5, 2.0, spread=2.0, normalized=True)
    points, weights = sphere_grid()
    points = rotated(points, d.loc)
    probability = d.log_prob(points).exp() * weights
    samples = d.sample((40_000,))
    axes = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE)).Q
    octant = torch.tensor([1, 2, 4])
    expected = torch.zeros(8, dtype=DOUBLE).index_add(
        0, ((points @ axes > 0) * octant).sum(-1), probability
    )
    observed = torch.bincount(((samples @ axes > 0) * octant).sum(-1), minlength=8)
    test = scipy.stats.chisquare(observed, expected / expected.sum() * len(samples))
    assert test.pvalue > 1e-3


def test_gradients_match_finite_differences():
    torch.manual_seed(5)
    direction = torch.randn(2, 5, dtype=DOUBLE, requires_grad=True)
    target = torch.randn(2, 5, dtype=DOUBLE, requires_grad=True)
    scale = (torch.rand(2, 5, dtype=DOUBLE) + 0.2).requires_grad_()
    df = torch.tensor([1.0, 3.0], dtype=DOUBLE, requires_grad=True)
    for normalized in (False, True):

        def log_prob(m, u, s, nu, normalized=normalized):
            d = SphericalStudentT(normalize(m, dim=-1), s, nu, normalized=normalized)
            return d.log_prob(normalize(u, dim=-1))

        assert torch.autograd.gradcheck(
            log_prob, (direction, target, scale, df), atol=1e-6, fast_mode=True
        )


@pytest.mark.parametrize("dim", [3, 256, 2048])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_finite_at_the_mode_and_at_the_antipode(dim, scale, sign, dtype):
    d = make(dim, scale, dtype=dtype)
    parameters = [d.loc.clone(), d.scale.clone(), (sign * d.loc).clone()]
    for p in parameters:
        p.requires_grad_()
    loc, scales, value = parameters
    log_prob = SphericalStudentT(loc, scales, 1.0, validate_args=False).log_prob(value)
    log_prob.backward()
    assert torch.isfinite(log_prob)
    assert all(torch.isfinite(p.grad).all() for p in parameters)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_antipode_of_equal_scales_has_the_right_value(dtype):
    loc = normalize(torch.randn(64, dtype=dtype), dim=0)
    d = SphericalStudentT(loc, 0.1, 3.0)
    dim, expected_q = 63, 4 / 0.1**2
    kernel = -(3 + dim) / 2 * math.log1p(expected_q / 3)
    at_mode = d.log_prob(loc).item()
    assert d.log_prob(-loc).item() - at_mode == pytest.approx(kernel, rel=1e-4)


def test_single_precision_agrees_with_double():
    torch.manual_seed(6)
    value = normalize(torch.randn(50, 512, dtype=DOUBLE), dim=-1)
    double = make(512, 0.05)
    single = SphericalStudentT(
        normalize(double.loc.float(), dim=0), double.scale.float(), 1.0
    ).log_prob(normalize(value.float(), dim=-1))
    torch.testing.assert_close(single.double(), double.log_prob(value), atol=2e-3, rtol=0)


def test_many_degrees_of_freedom_approach_the_gaussian():
    d = make(16, 0.2, 1e7)
    value = normalize(d.loc + 0.05 * torch.randn(20, 16, dtype=DOUBLE), dim=-1)
    cosine = value @ d.loc
    q = 2 / (1 + cosine) * (((value - cosine[:, None] * d.loc) / d.scale) ** 2).sum(-1)
    log_det = -d.scale.log().sum() + 0.5 * (d.loc * d.scale).square().sum().log()
    gaussian = -7.5 * math.log(2 * math.pi) + log_det - q / 2
    torch.testing.assert_close(d.log_prob(value), gaussian, rtol=1e-4, atol=1e-3)
    single = SphericalStudentT(d.loc.float(), d.scale.float(), 1e7).log_prob(value.float())
    torch.testing.assert_close(single.double(), gaussian, rtol=1e-3, atol=1e-2)


def test_shapes_broadcast_and_expand_keeps_the_class():
    loc = normalize(torch.randn(4, 1, 5), dim=-1)
    d = SphericalStudentT(loc, torch.ones(5), torch.tensor([1.0, 2.0, 3.0]))
    assert d.batch_shape == (4, 3)
    assert d.event_shape == (5,)
    assert SphericalStudentT.infer_shapes(loc=(4, 1, 5), scale=(5,), df=(3,)) == ((4, 3), (5,))
    assert d.sample((2,)).shape == (2, 4, 3, 5)
    expanded = d.expand((7, 4, 3))
    assert type(expanded) is SphericalStudentT
    value = normalize(torch.randn(5), dim=-1)
    assert expanded.log_prob(value).shape == (7, 4, 3)
    torch.testing.assert_close(expanded.log_prob(value)[2], d.log_prob(value))
    assert d.to_event(1).event_shape == (3, 5)


def test_samples_lie_on_the_sphere_and_carry_no_gradient():
    d = make(128, 0.05, dtype=torch.float32)
    samples = d.sample((100,))
    assert d.support.check(samples).all()
    assert not d.has_rsample
    torch.testing.assert_close(d.mode, d.loc)


def test_a_hopeless_sampler_says_so():
    with pytest.raises(ValueError, match=r"one draw in .* largest scale, 50"):
        SphericalStudentT(torch.eye(64)[0], 50.0, 1.0).sample((3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loc": torch.eye(2)[0]}, r"at least 3 dimensions, got loc of shape \(2,\)"),
        ({"loc": torch.ones(4)}, "parameter loc"),
        ({"scale": -1.0}, "parameter scale"),
        ({"scale": float("nan")}, "parameter scale"),
        ({"df": 0.0}, "parameter df"),
        ({"df": float("inf")}, "parameter df"),
        ({"scale": torch.ones(3)}, "(?i)shape mismatch|broadcast"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    arguments = {"loc": torch.eye(4)[0], "scale": 1.0, "df": 1.0} | arguments
    with pytest.raises((ValueError, RuntimeError), match=message):
        SphericalStudentT(**arguments, validate_args=True)


def test_values_off_the_sphere_are_refused():
    with pytest.raises(ValueError, match="worst norm is 2, the tolerance 2.4e-06"):
        SphericalStudentT(torch.eye(4)[0], 1.0, 1.0, validate_args=True).log_prob(torch.ones(4))
