import mpmath
import pytest
import torch

from vje_pyro.distributions._bessel import log_hyp0f1

DOUBLE = torch.float64
KAPPAS = [10.0**e for e in range(-8, 9)]
# Orders of D = 3, 4, 5, 35 (about the shortest and longest recurrence), 511, 2048 and beyond.
ORDERS = [0.5, 1.0, 1.5, 16.5, 254.5, 1023.0, 2047.0]


def exact(order, kappa):
    """The logarithm, the Bessel ratio and the ratio's derivative, in 50 digits."""
    with mpmath.workdps(50):
        kappa = mpmath.mpf(kappa)
        bessel = [mpmath.besseli(order + k, kappa) for k in range(3)]
        log_f = mpmath.log(bessel[0]) + mpmath.loggamma(order + 1) - order * mpmath.log(kappa / 2)
        ratio = bessel[1] / bessel[0]
        slope = bessel[2] / bessel[0] + ratio / kappa - ratio**2
        return float(log_f), float(ratio), float(slope)


@pytest.mark.parametrize("order", ORDERS)
def test_agrees_with_mpmath(order):
    expected = torch.tensor([exact(order, kappa) for kappa in KAPPAS], dtype=DOUBLE)
    kappa = torch.tensor(KAPPAS, dtype=DOUBLE, requires_grad=True)
    log_f, ratio = log_hyp0f1(order, kappa)
    torch.testing.assert_close(log_f, expected[:, 0], rtol=1e-10, atol=0)
    torch.testing.assert_close(ratio, expected[:, 1], rtol=1e-10, atol=0)
    # What is learned with a concentrated law is the small difference of the ratio from one.
    torch.testing.assert_close(1 - ratio, 1 - expected[:, 1], rtol=1e-7, atol=0)
    (gradient,) = torch.autograd.grad(log_f.sum(), kappa, create_graph=True)
    torch.testing.assert_close(gradient, expected[:, 1], rtol=1e-10, atol=0)
    (slope,) = torch.autograd.grad(ratio.sum(), kappa)
    torch.testing.assert_close(slope, expected[:, 2], rtol=1e-6, atol=0)


def test_half_order_is_elementary():
    kappa = torch.tensor([0.01, 1.0, 30.0, 300.0], dtype=DOUBLE)
    log_f, ratio = log_hyp0f1(0.5, kappa)
    torch.testing.assert_close(log_f, torch.log(kappa.sinh() / kappa), rtol=1e-10, atol=0)
    torch.testing.assert_close(ratio, 1 / kappa.tanh() - 1 / kappa, rtol=1e-10, atol=0)


def test_the_first_call_may_be_without_gradients():
    order, kappa = 77.25, torch.tensor(3.0)  # an order no other test has asked for
    with torch.inference_mode():
        log_hyp0f1(order, kappa)
    kappa.requires_grad_()
    log_hyp0f1(order, kappa)[0].backward()
    assert kappa.grad.item() == pytest.approx(exact(order, 3.0)[1], rel=1e-6)
