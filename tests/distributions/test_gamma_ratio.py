import mpmath
import pytest
import torch

from vje_pyro.distributions._gamma_ratio import log_gamma_ratio, log_student_t_normalizer


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


@pytest.mark.parametrize("dim", [1, 2, 255, 2047])
def test_the_student_t_normaliser_agrees_with_mpmath(dim):
    df = torch.logspace(-2, 14, 33, dtype=torch.float64, requires_grad=True)
    value = log_student_t_normalizer(df, dim)
    (gradient,) = torch.autograd.grad(value.sum(), df, create_graph=True)
    (bend,) = torch.autograd.grad(gradient.sum(), df)
    with mpmath.workdps(60):

        def exact(nu):
            log_gammas = mpmath.loggamma((nu + dim) / 2) - mpmath.loggamma(nu / 2)
            return log_gammas - mpmath.mpf(dim) / 2 * mpmath.log(nu * mpmath.pi)

        for i, nu in enumerate(map(mpmath.mpf, df.tolist())):
            size = dim + 1
            assert value[i].item() == pytest.approx(float(exact(nu)), rel=1e-12, abs=1e-12 * size)
            half = mpmath.mpf(dim) / 2
            slopes = [
                (mpmath.psi(k, nu / 2 + half) - mpmath.psi(k, nu / 2)) / 2 ** (k + 1)
                - (-1) ** k * half / nu ** (k + 1)
                for k in (0, 1)
            ]
            # Per log ν: of digammas of about 8 that cancel, times ν below 1e4, a rounding of 1e-11.
            # The second has the nine digits of torch's trigamma function.
            for k, ours, digits in ((1, gradient, 1e-11), (2, bend, 1e-9)):
                scaled = ours[i].item() * float(nu) ** k
                expected = float(slopes[k - 1] * nu**k)
                assert scaled == pytest.approx(expected, rel=digits, abs=digits * size)
