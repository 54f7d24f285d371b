import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from vje_pyro.inference import SymmetricELBO, ordered_pairs

N, D = 6, 3


class Toy(nn.Module):
    """z ~ N(0, I), x | z ~ N(z, 1), y | z ~ N(sum z, 1); q(z | x) = N(A x, s)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(D, D)
        self.raw_scale = nn.Parameter(torch.zeros(D))

    def encode(self, x):
        return self.encoder(x)

    def model(self, x, loc):
        with pyro.plate("data", N, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.deterministic("twice", 2 * z, event_dim=1)
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)
            pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))

    def guide(self, x, loc):
        with pyro.plate("data", N, dim=-1):
            pyro.sample("z", dist.Normal(loc, self.raw_scale.exp()).to_event(1))


@pytest.fixture
def toy():
    pyro.clear_param_store()
    torch.manual_seed(0)
    return Toy()


@pytest.fixture
def x():
    return torch.randn(N, D)


def test_ordered_pairs_hold_every_order_once():
    embeddings = torch.arange(3.0)[:, None, None].expand(3, 4, 2)
    source, target = ordered_pairs(embeddings + torch.arange(4.0)[None, :, None] * 10)
    assert source.shape == target.shape == (24, 2)
    pairs = zip(source[:, 0].tolist(), target[:, 0].tolist(), strict=True)
    found = {(a % 10, b % 10) for a, b in pairs}
    assert found == {(i, j) for i in range(3) for j in range(3) if i != j}
    assert ((source - target).abs() < 10).all()  # the two views of a pair are of one image


@pytest.mark.parametrize("shape", [(1, 4, 2), (4, 2)])
def test_one_view_makes_no_pair(shape):
    with pytest.raises(ValueError, match="at least two views"):
        ordered_pairs(torch.zeros(shape))


def test_loss_is_pyros_mean_field_elbo_per_datum(toy, x):
    arguments = (x, toy.encode(x))
    torch.manual_seed(1)
    ours = SymmetricELBO().differentiable_loss(toy.model, toy.guide, *arguments)
    torch.manual_seed(1)
    pyros = TraceMeanField_ELBO().differentiable_loss(toy.model, toy.guide, *arguments) / N
    torch.testing.assert_close(ours, pyros)
    ours.backward()
    gradient = toy.encoder.weight.grad.clone()
    toy.zero_grad()
    torch.manual_seed(1)
    arguments = (x, toy.encode(x))
    (TraceMeanField_ELBO().differentiable_loss(toy.model, toy.guide, *arguments) / N).backward()
    torch.testing.assert_close(gradient, toy.encoder.weight.grad)


@pytest.mark.parametrize("kl", ["analytic", "sample"])
def test_loss_is_unbiased_for_the_elbo(toy, x, kl):
    arguments = (x, toy.encode(x).detach())
    torch.manual_seed(2)
    with torch.no_grad():
        ours = SymmetricELBO(num_particles=20_000, kl=kl).loss(toy.model, toy.guide, *arguments)
        reference = Trace_ELBO(20_000, vectorize_particles=True, max_plate_nesting=1)
        assert ours == pytest.approx(reference.loss(toy.model, toy.guide, *arguments) / N, rel=5e-3)


def test_terms_are_per_datum_and_named_after_the_sites(toy, x):
    elbo = SymmetricELBO(beta=0.5, num_particles=3)
    torch.manual_seed(3)
    terms = elbo.terms(toy.model, toy.guide, x, toy.encode(x))
    assert set(terms) == {"x", "y", "kl"}
    assert all(v.shape == (N,) for v in terms.values())
    q = dist.Normal(toy.encode(x), toy.raw_scale.exp()).to_event(1)
    p = dist.Normal(torch.zeros(D), 1.0).to_event(1)
    torch.testing.assert_close(terms["kl"], torch.distributions.kl_divergence(q, p))
    torch.manual_seed(3)
    loss = elbo.differentiable_loss(toy.model, toy.guide, x, toy.encode(x))
    torch.testing.assert_close(-loss, (terms["x"] + terms["y"] - 0.5 * terms["kl"]).mean())


def test_elbo_module_trains_with_a_torch_optimiser(toy, x):
    elbo = SymmetricELBO(num_particles=8)
    optimiser = torch.optim.Adam(toy.parameters(), lr=0.05)
    with torch.no_grad():
        before = SymmetricELBO(num_particles=500).loss(toy.model, toy.guide, x, toy.encode(x))
    for _ in range(60):
        optimiser.zero_grad()
        elbo(toy.model, toy.guide)(x, toy.encode(x)).backward()
        optimiser.step()
    after = SymmetricELBO(num_particles=500).loss(toy.model, toy.guide, x, toy.encode(x))
    assert after < before - 1


def test_classic_svi_moves_the_encoder(toy, x):
    svi = SVI(toy.model, toy.guide, pyro.optim.Adam({"lr": 0.05}), loss=SymmetricELBO())
    before = toy.encoder.weight.detach().clone()
    losses = [svi.step(x, toy.encode(x)) for _ in range(60)]
    assert (toy.encoder.weight - before).abs().max() > 0.1
    assert sum(losses[-10:]) < sum(losses[:10])
    assert "Toy$$$encoder.weight" in pyro.get_param_store()


def test_svi_refuses_to_train_a_model_of_before(toy, x):
    elbo = SymmetricELBO()
    elbo.loss_and_grads(toy.model, toy.guide, x, toy.encode(x))
    other = Toy()
    with pytest.raises(ValueError, match=r"already holds another Toy.*clear_param_store"):
        elbo.loss_and_grads(other.model, other.guide, x, other.encode(x))


def test_masks_and_scales_are_honoured(toy, x):
    arguments = (x, toy.encode(x))
    keep = torch.arange(N) < 2
    torch.manual_seed(4)
    whole = SymmetricELBO().terms(toy.model, toy.guide, *arguments)
    torch.manual_seed(4)
    masked = SymmetricELBO().terms(
        pyro.poutine.mask(toy.model, mask=keep), pyro.poutine.mask(toy.guide, mask=keep), *arguments
    )
    for name, value in masked.items():
        torch.testing.assert_close(value, torch.where(keep, whole[name], torch.zeros(N)))
    torch.manual_seed(4)
    scaled = SymmetricELBO().terms(pyro.poutine.scale(toy.model, scale=0.1), toy.guide, *arguments)
    for name, value in scaled.items():
        torch.testing.assert_close(value, 0.1 * whole[name])


def test_a_missing_analytic_kl_is_an_error_not_a_fallback(toy, x):
    def heavy_tailed(x, loc):
        with pyro.plate("data", N, dim=-1):
            pyro.sample("z", dist.StudentT(3.0, torch.zeros(D), 1.0).to_event(1))

    arguments = (x, toy.encode(x))
    with pytest.raises(NotImplementedError, match=r"at site 'z': use SymmetricELBO\(kl='sample'\)"):
        SymmetricELBO().terms(heavy_tailed, toy.guide, *arguments)
    assert torch.isfinite(
        SymmetricELBO(kl="sample").terms(heavy_tailed, toy.guide, *arguments)["kl"]
    ).all()


def test_a_latent_that_the_guide_forgets_is_an_error(toy, x):
    def with_a_global_latent(x, loc):
        pyro.sample("noise", dist.LogNormal(0.0, 1.0))
        toy.model(x, loc)

    message = r"latent site 'noise' is not in the guide, which samples \['z'\].*TraceEnum_ELBO"
    with pytest.raises(ValueError, match=message):
        SymmetricELBO().terms(with_a_global_latent, toy.guide, x, toy.encode(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -0.1}, "beta must be finite and not negative, got -0.1"),
        ({"beta": float("nan")}, "beta"),
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"kl": "auto"}, "kl must be 'analytic' or 'sample', got 'auto'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SymmetricELBO(**arguments)
