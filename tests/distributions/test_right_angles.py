"""docs/appendix/ablation.md: directions far from the location, at D = 256 and scale 1/√D."""

import math
from functools import partial

import pytest
import torch

from vje_pyro.distributions import (
    PowerSpherical,
    ProjectedStudentT,
    SphericalNormal,
    SphericalStudentT,
    SphericalUniform,
    VonMisesFisher,
)

D = 256
LAWS = {
    "subdensity": (partial(SphericalStudentT, df=1.0), -91.1, -2.6),
    "its normalised reference": (partial(SphericalStudentT, df=1.0, normalized=True), -2.9, 34.3),
    "projected Student-t": (partial(ProjectedStudentT, df=1.0), -2.8, 34.6),
    "spherical normal": (SphericalNormal, -127.7, 0.3),
    "von Mises–Fisher": (VonMisesFisher, -96.7, 31.3),
    "power-spherical": (PowerSpherical, -186.3, 21.3),
}


@pytest.mark.parametrize("name", LAWS)
def test_nats_over_the_uniform_law(name):
    law, at_90, at_60 = LAWS[name]
    first, second = torch.eye(D, dtype=torch.float64)[:2]
    law = law(first, torch.full((D,), D**-0.5, dtype=torch.float64))
    uniform = SphericalUniform(D).log_prob(first.float()).item()
    for degrees, nats in ((90, at_90), (60, at_60)):
        angle = math.radians(degrees)
        u = math.cos(angle) * first + math.sin(angle) * second
        assert law.log_prob(u).item() - uniform == pytest.approx(nats, abs=0.06)
