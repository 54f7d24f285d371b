import pytest
import torch

from vje_pyro.distributions._common import unit_vector

DOUBLE = torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_direction_is_that_of_division_by_the_norm(dtype):
    x = torch.randn(3, 5, 7, dtype=dtype) * torch.logspace(-6, 6, 5, dtype=dtype)[:, None]
    assert torch.equal(unit_vector(x), x / x.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("tiny", [0.0, 1e-200])
def test_zero_has_a_direction_and_no_derivative(tiny):
    """Also a vector whose norm underflows; beside it, another datum keeps its own derivatives."""
    torch.manual_seed(0)
    x = torch.stack([torch.full((4,), tiny, dtype=DOUBLE), torch.randn(4, dtype=DOUBLE)])
    direction = torch.randn(4, dtype=DOUBLE)

    def f(x):
        along = unit_vector(x) @ direction
        return along.exp().sum()

    assert torch.equal(unit_vector(x)[0], torch.eye(4, dtype=DOUBLE)[0])
    gradient = torch.autograd.functional.jacobian(f, x)
    hessian = torch.autograd.functional.hessian(f, x)
    assert (gradient[0] == 0).all()
    assert (hessian[0] == 0).all()
    assert (hessian[:, :, 0] == 0).all()
    other = x[1:].requires_grad_()
    assert torch.autograd.gradcheck(f, (other,))
    assert torch.autograd.gradgradcheck(f, (other,))
