import mpmath
import pytest
import torch

from vje_pyro.distributions._gamma_ratio import log_gamma_ratio


@pytest.mark.parametrize("step", [0.5, 1.0, 31.5, 1023.5])
def test_agrees_with_mpmath(step):
    x = torch.tensor(
        [0.3, 1.5, 17.0, *(10.0**e for e in range(2, 10))], dtype=torch.float64, requires_grad=True
    )
    value, slope = log_gamma_ratio(x, step)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    with mpmath.workdps(50):
        for i, y in enumerate(map(mpmath.mpf, x.tolist())):
            exact = [
                mpmath.loggamma(y + step) - mpmath.loggamma(y),
                *(mpmath.psi(k, y + step) - mpmath.psi(k, y) for k in (0, 1)),
            ]
            assert value[i].item() == pytest.approx(float(exact[0]), rel=1e-13)
            assert slope[i].item() == pytest.approx(float(exact[1]), rel=1e-13)
            assert gradient[i].item() == pytest.approx(float(exact[1]), rel=1e-13)
            assert bend[i].item() == pytest.approx(float(exact[2]), rel=1e-13)
