"""Every method, small, with an encoder of six features: the rows of the tests of all methods."""

from functools import partial

import torch
from torch import nn

from vje_pyro import models
from vje_pyro.distributions import RadialStudentT, SphericalStudentT, VonMisesFisher
from vje_pyro.guides import DiagonalNormal

D, P, B = 6, 5, 8
DIAGONAL = partial(DiagonalNormal, hidden_features=16)
STUDENT_T = partial(SphericalStudentT, df=1.0)
RADIUS = partial(RadialStudentT, scale=1.0, df=1.0)
WIDTHS = {"hidden_dim": 24, "output_dim": 12}
PREDICTING = {**WIDTHS, "predictor_dim": 8}
NARROW = {"hidden_dim": 16, "output_dim": P}
SETTINGS = {
    "SimSiam": PREDICTING, "BYOL": PREDICTING, "MoCoV3": PREDICTING,
    "BarlowTwins": WIDTHS, "VICReg": WIDTHS, "SimCLR": WIDTHS, "LeJEPA": WIDTHS,
    "MCInfoNCE": NARROW, "VSSL": NARROW, "VISimSiam": {**NARROW, "predictor_dim": 8},
    "VJE": {"guide": DIAGONAL, "direction": STUDENT_T, "radius": RADIUS},
}  # fmt: skip
"""Arguments of every class of a method."""

METHODS = {
    **{name: (name, {}) for name in SETTINGS},
    "VSSL-cosine-kl": ("VSSL", {"kl": "cosine"}),
    "VSSL-cosine-likelihood": ("VSSL", {"likelihood": "cosine"}),
    "VSSL-cosine": ("VSSL", {"kl": "cosine", "likelihood": "cosine"}),
    "VISimSiam-von-mises-fisher": ("VISimSiam", {"law": VonMisesFisher}),
    "VJE-teacher": ("VJE", {"target_momentum": 0.5}),
    "VJE-projector": ("VJE", {"projector_dim": 16, "target_momentum": 0.5}),
}
"""Class and further arguments of everything that must keep the contract."""

BASELINES = ["SimSiam", "BYOL", "BarlowTwins", "VICReg", "MoCoV3", "SimCLR", "LeJEPA", "MCInfoNCE"]
PROBABILISTIC = [name for name in METHODS if name.startswith(("V", "MC")) and name != "VICReg"]
PROGRAMS = [name for name in PROBABILISTIC if name != "MCInfoNCE"]
TAUGHT = [name for name in METHODS if name.startswith(("BYOL", "MoCo", "VSSL", "VJE-"))]


class Encoder(nn.Module):
    """Linear, and counts its calls."""

    def __init__(self, num_features=D):
        super().__init__()
        self.num_features = num_features
        self.linear = nn.Linear(3 * 4 * 4, num_features)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self.linear(images.flatten(1))


def make(name, **overrides):
    """A method of fixed weights; a teacher of VSSL stands elsewhere than its student."""
    kind, variant = METHODS[name]
    torch.manual_seed(0)
    settings = {"encoder": Encoder(), **SETTINGS[kind], **variant, **overrides}
    method = getattr(models, kind)(**settings)
    if kind == "VSSL":
        with torch.no_grad():
            for p in method.teacher.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return method


def seeded(function, *arguments, seed=2):
    """Its value, of the same draws every time."""
    torch.manual_seed(seed)
    return function(*arguments)


def random_views(num_views=2, batch=B):
    return torch.randn(num_views, batch, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def gradients(method):
    """Gradients of what is trained, by name."""
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.requires_grad}
