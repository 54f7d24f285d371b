"""What every distribution of the table must satisfy."""

import math

import pytest
import scipy.stats
import torch
from sphere_quadrature import cell_on_sphere, sphere_grid, weighted_draws
from table import DIRECTIONS, RADII, ROWS
from torch.nn.functional import normalize

from vje_pyro.distributions._isotropic import Isotropic

DOUBLE = torch.float64


def of(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.id)


def nodes(row, d):
    """Quadrature nodes and weights over the whole support of a direction (D = 3) or a radius."""
    if row.kind == "direction":
        return sphere_grid(d.loc)
    x = torch.linspace(-40, 40, 20_001, dtype=DOUBLE)
    return x.exp(), x.exp() * (x[1] - x[0])


def mass(row, d):
    return 1.0 if row.mass is None else row.mass(d).item()


def differentiable(row, **kwargs):
    """Names and leaves; a direction's location is to be normalised by :func:`law`."""
    parameters = row.parameters(**kwargs)
    return list(parameters), [x.clone().requires_grad_() for x in parameters.values()]


def law(row, names, tensors):
    parameters = dict(zip(names, tensors, strict=True))
    if row.kind == "direction":
        parameters["loc"] = normalize(parameters["loc"], dim=-1)
    return row.build(parameters, validate_args=False)


@of(ROWS)
def test_integrates_to_its_mass(row):
    d = row.make(dim=3)
    points, weights = nodes(row, d)
    integral = (d.log_prob(points).exp() * weights).sum().item()
    assert integral == pytest.approx(mass(row, d), abs=1e-6)
    assert (mass(row, d) < 1) == (row.mass is not None)


@of(DIRECTIONS)
@pytest.mark.parametrize("dim", [4, 6])
def test_integrates_by_monte_carlo_above_three_dimensions(row, dim):
    torch.manual_seed(dim)
    d = row.make(dim)
    points, weights = weighted_draws(d.loc, 40_000)
    terms = d.log_prob(points).exp() * weights
    error = terms.std().item() / math.sqrt(len(terms))
    assert abs(terms.mean().item() - mass(row, d)) < 4 * error < 0.05


@of(ROWS)
def test_samples_follow_the_density(row):
    """Chi-square over cells: caps and sectors of a direction, quantiles of a radius."""
    torch.manual_seed(0)
    d = row.make(dim=3)
    if row.kind == "direction":
        caps, sectors = (-1.0, 0.3, 0.7, 0.9, 1.0), 8
        # Cells end between nodes, where the rule is exact or (midpoints: h²/24) close to it.
        points, weights = sphere_grid(d.loc, caps, 40, 50 * sectors)

        def cell(u):
            return cell_on_sphere(u, d.loc, caps, sectors)
    else:
        points, weights = nodes(row, d)
        edges = points[9700:10300:20].contiguous()  # from 0.3 to 3.3

        def cell(r):
            return torch.bucketize(r, edges)

    probability = d.log_prob(points).exp() * weights
    probability = probability / probability.sum()  # a subdensity is sampled normalised
    samples = d.sample((20_000,))
    expected = torch.zeros(32, dtype=DOUBLE).index_add(0, cell(points), probability)
    observed = torch.bincount(cell(samples), minlength=32).double()
    expected = expected * len(samples)
    rare = expected < 5
    bins = [torch.cat([x[~rare], x[rare].sum()[None]]) for x in (observed, expected)]
    bins = [x[bins[1] > 0] for x in bins]
    assert scipy.stats.chisquare(*(x.numpy() for x in bins)).pvalue > 1e-3


@of([row for row in DIRECTIONS if row.mass is None])
def test_samples_have_the_moments_of_the_density_in_six_dimensions(row):
    torch.manual_seed(1)
    d = row.make(dim=6)
    points, weights = weighted_draws(d.loc, 40_000)
    weights = d.log_prob(points).exp() * weights
    samples = d.sample((40_000,))

    def statistics(u):
        return torch.cat([(u @ d.loc)[:, None], u.square()], -1)

    expected = weights[:, None] * statistics(points)
    observed = statistics(samples)
    error = (expected.var(0) / len(expected) + observed.var(0) / len(observed)).sqrt()
    z = (expected.mean(0) - observed.mean(0)) / error
    assert z.abs().max().item() < 4.5


@of(ROWS)
def test_gradients_match_finite_differences(row):
    torch.manual_seed(2)
    names, tensors = differentiable(row, dim=5, batch=(2,))
    value = law(row, names, tensors).sample().detach()
    value = (value + 0.1 * torch.rand_like(value)).requires_grad_()

    def log_prob(value, *tensors):
        value = normalize(value, dim=-1) if row.kind == "direction" else value
        return law(row, names, tensors).log_prob(value)

    assert torch.autograd.gradcheck(log_prob, (value, *tensors), atol=1e-5, fast_mode=True)


SECOND = [
    pytest.param(row, dim, scale, own, id=f"{row.id}-{dim}-{scale}-{own}")
    for row in ROWS
    for dim in ((3, 20) if row.kind == "direction" else (1,))
    for scale, own in ((0.4, 1.0), (3.0, 0.5), (0.1, 50.0))
    if own == 1.0 or dim < 20
]


@pytest.mark.parametrize(("row", "dim", "scale", "own"), SECOND)
def test_second_derivatives_match_finite_differences(row, dim, scale, own):
    """The Hessian along a line through value and parameters, and as ``torch.autograd`` forms it."""
    torch.manual_seed(4)
    names, tensors = differentiable(row, dim=dim, scale=scale)
    with torch.no_grad():
        for name in row.own:
            tensors[names.index(name)].fill_(own)
    value = row.parameters(dim, seed=1)["loc"].requires_grad_()
    points = [value, *tensors]

    def log_prob(*points):
        value, *tensors = points
        value = normalize(value, dim=-1) if row.kind == "direction" else value
        return law(row, names, tensors).log_prob(value)

    # A step along a random line in the logarithm of what is positive.
    line = [torch.randn_like(x) * (1 if x.dim() and i < 2 else x) for i, x in enumerate(points)]
    line = [x.detach() for x in line]

    def gradient(t, create_graph=False):
        moved = [x + t * dx for x, dx in zip(points, line, strict=True)]
        return torch.autograd.grad(log_prob(*moved), points, create_graph=create_graph)

    along = sum((g * dx).sum() for g, dx in zip(gradient(0.0, True), line, strict=True))
    exact = torch.autograd.grad(along, points)
    h = 1e-4
    for name, x, high, low in zip(["value", *names], exact, gradient(h), gradient(-h), strict=True):
        size = 1 + torch.maximum(high.abs().max(), x.abs().max()).item()
        torch.testing.assert_close(
            x,
            (high - low) / (2 * h),
            rtol=0,
            atol=1e-5 * size,
            msg=lambda m, name=name: f"{name}: {m}",
        )


@of(ROWS)
# torch decomposes some operations by torch.jit.script for forward mode.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_torch_func_agrees_with_autograd(row):
    """Gradient, Hessian and a map over data, of a log scale of each feature."""
    torch.manual_seed(5)
    parameters = row.parameters(dim=3, batch=(2,))
    d = row.build(parameters, validate_args=False)
    value = d.sample()
    name = "scale" if "scale" in parameters else next(iter(row.own))

    def log_prob(log_scale, value, others):
        given = others | {name: log_scale.exp()}
        return row.build(given, validate_args=False).log_prob(value)

    log_scale = parameters[name].log()
    others = {n: x for n, x in parameters.items() if n != name}

    def total(log_scale):
        return log_prob(log_scale, value, others).sum()

    gradient = torch.autograd.functional.jacobian(total, log_scale)
    torch.testing.assert_close(torch.func.grad(total)(log_scale), gradient)
    hessian = torch.autograd.functional.hessian(total, log_scale)
    torch.testing.assert_close(torch.func.hessian(total)(log_scale), hessian)
    mapped = torch.func.vmap(torch.func.grad(log_prob))(log_scale, value, others)
    torch.testing.assert_close(mapped, gradient)


@of([row for row in ROWS if row.rsample])
def test_pathwise_gradients_are_those_of_the_expectation(row):
    """Of E f, from draws one by one and from the derivative of the integral of f times density."""
    torch.manual_seed(3)
    names, tensors = differentiable(row, dim=3)
    direction = torch.randn(3, dtype=DOUBLE)

    def f(value):
        if row.kind == "direction":
            along = value @ direction
            return along + along.square()
        return value / (1 + value)

    d = law(row, names, tensors)
    assert d.has_rsample
    with torch.no_grad():
        points, weights = nodes(row, d)
    integral = (f(points) * d.log_prob(points).exp() * weights).sum()
    expected = torch.autograd.grad(integral, tensors)

    count = 40_000
    copies = [x.detach().expand(count, *x.shape).clone().requires_grad_() for x in tensors]
    drawn = torch.autograd.grad(f(law(row, names, copies).rsample()).sum(), copies)
    for name, exact, each in zip(names, expected, drawn, strict=True):
        error = each.std(0) / math.sqrt(count)
        assert ((each.mean(0) - exact).abs() <= 4.5 * error + 1e-9).all(), name


@of(ROWS)
def test_only_a_right_rsample_is_offered(row):
    d = row.make()
    assert d.has_rsample == row.rsample
    assert not d.sample((2,)).requires_grad
    assert bool(getattr(d, "is_subdensity", False)) == (row.mass is not None)


@of(ROWS)
def test_shapes_broadcast_and_expand_keeps_the_class(row):
    event = (5,) if row.kind == "direction" else ()
    parameters = {"loc": row.parameters(5, batch=(4, 1))["loc"]}
    parameters["scale"] = torch.full((3, 1) if event else (3,), 0.4, dtype=DOUBLE)
    parameters |= {name: torch.tensor(x, dtype=DOUBLE) for name, x in row.own.items()}
    d = row.build(parameters)
    assert (d.batch_shape, d.event_shape) == ((4, 3), event)
    shapes = {name: tuple(x.shape) for name, x in parameters.items()}
    assert type(d).infer_shapes(**shapes) == ((4, 3), event)
    assert d.sample((2,)).shape == (2, 4, 3, *event)
    expanded = d.expand((7, 4, 3))
    assert type(expanded) is row.cls
    assert all(getattr(expanded, name) == x for name, x in row.options.items())
    assert (expanded.batch_shape, expanded.event_shape) == ((7, 4, 3), event)
    assert expanded.sample().shape == (7, 4, 3, *event)
    value = row.parameters(5, seed=1)["loc"]
    assert expanded.log_prob(value).shape == (7, 4, 3)
    torch.testing.assert_close(expanded.log_prob(value)[2], d.log_prob(value))
    assert d.to_event(1).event_shape == (3, *event)
    assert d.to_event(1).log_prob(value.expand(4, 3, *event)).shape == (4,)


@pytest.mark.parametrize(
    ("row", "dim"),
    [
        pytest.param(row, dim, id=f"{row.id}-{dim}")
        for row in ROWS
        for dim in ([3, 256, 2048] if row.kind == "direction" else [1])
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_finite_everywhere(row, dim, dtype):
    """At the location, opposite and between, over six decades of the scale, with its gradients."""
    names, tensors = differentiable(row, dim=dim, dtype=dtype, batch=(3,))
    scales = tensors[names.index("scale")]
    with torch.no_grad():
        scales *= torch.tensor([1e-3, 1.0, 1e3], dtype=dtype).reshape(3, *[1] * (scales.dim() - 1))
        loc = tensors[names.index("loc")]
        if row.kind == "direction":
            between = normalize(loc + row.parameters(dim, dtype=dtype, seed=1)["loc"], dim=-1)
            value = torch.stack([loc, -loc, between])
        else:
            value = torch.stack([loc, loc / 1e4, loc * 1e4])
    value = value.clone().requires_grad_()
    # The leaves themselves: their location is on the sphere already, to the last digit.
    d = row.build(dict(zip(names, tensors, strict=True)), validate_args=False)
    log_prob = d.log_prob(value)
    assert log_prob.shape == (3, 3)
    assert log_prob.dtype == dtype
    assert torch.isfinite(log_prob).all()
    for name, gradient in zip(
        ["value", *names], torch.autograd.grad(log_prob.sum(), [value, *tensors]), strict=True
    ):
        assert torch.isfinite(gradient).all(), name


@of(ROWS)
@pytest.mark.parametrize("dim", [3, 512])
def test_single_precision_agrees_with_double(row, dim):
    double = row.make(dim, 0.4 if dim == 3 else 0.05, batch=(20,))
    single = row.make(dim, 0.4 if dim == 3 else 0.05, torch.float32, batch=(20,))
    if row.kind == "direction":
        noise = 1.5 * row.parameters(dim, batch=(20,), seed=1)["loc"]
        value = normalize(double.loc + noise, dim=-1)
        rounded = normalize(value.float(), dim=-1)
    else:
        value = 0.5 * row.parameters(batch=(20,), seed=1)["loc"]
        rounded = value.float()
    torch.testing.assert_close(
        single.log_prob(rounded).double(), double.log_prob(value), atol=2e-3, rtol=2e-6
    )


@of([row for row in ROWS if row.own or issubclass(row.cls, Isotropic)])
@pytest.mark.parametrize("dim", [3, 64])
def test_single_precision_holds_for_every_df_and_concentration(row, dim):
    """Of the same numbers. A quadratic form of about D keeps 1e-6 of itself in single precision."""
    exponents = torch.linspace(-2, 8, 21)
    own = 10**exponents
    loc = row.parameters(dim, dtype=torch.float32, batch=(21,))["loc"]
    # Values within a few widths of the law.
    width = torch.full((21,), 0.3)
    if not row.own:
        parameters, width = {"concentration": own}, own.rsqrt().clamp(max=1.0)
    else:
        scale = 0.3 if row.kind == "radius" else 0.3 * torch.ones(21, dim)
        parameters = {"scale": scale} | dict.fromkeys(row.own, own)
    noise = row.parameters(dim, dtype=torch.float32, batch=(21,), seed=1)["loc"]
    if row.kind == "direction":
        value = normalize(loc + width[:, None] * noise, dim=-1)
    else:
        value = loc + width * (noise - 2)
    parameters |= {"loc": loc}
    laws = [
        row.build({k: torch.as_tensor(x).to(t) for k, x in parameters.items()}, validate_args=False)
        for t in (torch.float32, DOUBLE)
    ]
    single, double = laws[0].log_prob(value), laws[1].log_prob(value.double())
    torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("row", "scale"),
    [
        pytest.param(row, scale, id=f"{row.id}-{scale}")
        for row in ROWS
        for scale in (0.02, 0.4, 5.0)
        if scale <= row.sample_only_below
    ],
)
def test_samples_lie_in_the_support(row, scale):
    samples = row.make(16, scale, torch.float32).sample((200,))
    support = row.make(16, scale, torch.float32).support
    assert support.check(samples).all()


@pytest.mark.parametrize(
    ("row", "arguments", "message"),
    [
        pytest.param(row, arguments, message, id=f"{row.id}-{name}={arguments[name]}")
        for row in ROWS
        for arguments, message in row.bad
        for name in arguments
    ],
)
def test_bad_parameters_are_named(row, arguments, message):
    good = row.parameters(dtype=torch.float32)
    with pytest.raises((ValueError, RuntimeError), match=message):
        row.build(good | arguments, validate_args=True)


@of(DIRECTIONS)
def test_a_value_off_the_sphere_is_refused_with_its_norm(row):
    d = row.build(row.parameters(4, dtype=torch.float32), validate_args=True)
    value = torch.stack([d.loc, 1.25 * d.loc])
    with pytest.raises(ValueError, match=r"the worst norm is 1\.25.*, the tolerance 2\.4e-06"):
        d.log_prob(value)
    with pytest.raises(ValueError, match="the worst norm is nan"):
        d.log_prob(value * float("nan"))
    d.log_prob(value[:1])


@of(DIRECTIONS)
def test_a_value_of_the_wrong_event_shape_is_refused(row):
    d = row.build(row.parameters(4), validate_args=True)
    with pytest.raises(
        ValueError, match=r"directions of shape \(4,\), got a value of shape \(5,\)"
    ):
        d.log_prob(torch.eye(5, dtype=DOUBLE)[0])


@of(RADII)
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_radius_that_is_not_positive_is_refused(row, value):
    d = row.build(row.parameters(), validate_args=True)
    with pytest.raises(ValueError, match="within the support"):
        d.log_prob(torch.tensor(value, dtype=DOUBLE))
