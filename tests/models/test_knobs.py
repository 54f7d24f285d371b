"""What every knob of every method and component does: by what value, or in which direction.

A row is a class, a knob, two values of it and the relation that the formula demands. The last test
holds the table against the constructors: a knob without a row fails.
"""

import inspect
from functools import partial

import pytest
import torch
from relations import (
    averages,
    bounds_guide,
    bounds_kappa,
    bounds_scale,
    couplings,
    depth,
    divides_the_scale,
    factor,
    guesses,
    integrates,
    leaves_out,
    lightens_the_prior,
    lightens_the_tail,
    linear,
    lowers_on_average,
    lowers_the_centre,
    narrows,
    no_batch_norm,
    normalises,
    other_gradient,
    proportional,
    quiets,
    raises,
    rank,
    refers,
    scales_z,
    shares_scale,
    spreads,
    traded,
    unbiased,
    weighs,
    weighs_kl,
    whitens,
    width,
)
from small import PREDICTING, RADIUS, SETTINGS, D
from torch import nn

from vje_pyro import distributions, guides, inference, models, priors
from vje_pyro.distributions import RadialStudentT
from vje_pyro.inference import SlicedEppsPulley

linears = depth(nn.Linear)
WIDE = [
    ("VISimSiam", "hidden_dim"), ("VISimSiam", "output_dim"), ("VISimSiam", "predictor_dim"),
    ("VSSL", "hidden_dim"), ("VSSL", "output_dim"), ("VJE", "projector_dim"),
    ("MCInfoNCE", "hidden_dim"), ("MCInfoNCE", "output_dim"),
    *((n, k) for n in SETTINGS if SETTINGS[n].keys() >= {"hidden_dim"} and n[0] in "BSLM"
      and n != "MCInfoNCE" for k in ("hidden_dim", "output_dim")),
    ("VICReg", "hidden_dim"), ("VICReg", "output_dim"),
    *((n, "predictor_dim") for n in SETTINGS if SETTINGS[n] is PREDICTING),
    ("DiagonalNormal", "hidden_features"), ("LowRankNormal", "hidden_features"),
    ("ConjugateNormal", "hidden_features"), ("AffineCouplingFlow", "hidden_features"),
    ("AffineCouplingFlow", "flow_features"),
    ("MixturePrior", "num_components"), ("VampPrior", "num_components"),
]  # fmt: skip
DIRECTIONS = ["PowerSpherical", "ProjectedNormal", "ProjectedStudentT", "SphericalNormal",
              "SphericalStudentT", "VonMisesFisher"]  # fmt: skip
GUIDES = ["DiagonalNormal", "LowRankNormal", "ConjugateNormal", "AffineCouplingFlow"]
KNOBS = [
    *((name, knob, 29, 31, width) for name, knob in WIDE),
    *((name, "num_layers", 2, 4, linears) for name in ("VICReg", "MoCoV3", "SimCLR", "LeJEPA",
                                                       "MCInfoNCE", *GUIDES)),
    ("SimCLR", "batch_norm", True, False, no_batch_norm),
    ("BarlowTwins", "scale", 0.1, 0.3, proportional),
    ("BarlowTwins", "redundancy_weight", 5e-2, 0.1, linear),
    ("VICReg", "invariance_weight", 25.0, 3.0, weighs("invariance")),
    ("VICReg", "variance_weight", 25.0, 3.0, weighs("variance")),
    ("VICReg", "covariance_weight", 1.0, 3.0, weighs("covariance")),
    ("LeJEPA", "sigreg_weight", 0.05, 0.2, traded),
    # 2τ(log Σ exp(s/τ) − s/τ) has the entropy of its softmax as derivative.
    ("MoCoV3", "temperature", 0.2, 0.7, raises),
    ("SimCLR", "temperature", 0.2, 1e5, guesses),
    ("MCInfoNCE", "temperature", 0.2, 1e5, guesses),
    ("MCInfoNCE", "num_particles", 1, 16, lowers_on_average),
    ("MCInfoNCE", "max_ratio", 1e3, 1.01, bounds_kappa),
    ("VISimSiam", "max_ratio", 1e3, 1.01, bounds_kappa),
    ("VISimSiam", "beta", 0.0, 0.5, weighs_kl),
    ("VSSL", "beta", 1.0, 0.5, weighs_kl),
    ("VSSL", "num_particles", 1, 16, quiets),
    ("VSSL", "min_scale", 0.01, 0.9, bounds_scale),
    ("VSSL", "max_scale", 10.0, 1.1, bounds_scale),
    ("VJE", "beta", 1.0, 0.5, weighs_kl),
    ("VJE", "num_particles", 1, 16, quiets),
    ("VJE", "embedding_norm", True, False, whitens),
    ("VJE", "radius", None, RADIUS, leaves_out("radius")),
    ("VJE", "radius", None, partial(RadialStudentT, scale=2.0, df=3.0, normalized=True),
     leaves_out("radius")),
    ("VJE", "aggregate", None, SlicedEppsPulley(weight=1e-2), leaves_out("aggregate")),
    ("VJE", "target_grad", "stop", "flow", other_gradient),
    ("VJE", "kl", "analytic", "sample", unbiased),
    ("VJE", "reference_radius", D**0.5, 1.0, divides_the_scale),
    *((name, "scale", 0.3, 0.9, lowers_the_centre) for name in (
        *DIRECTIONS, "RadialLogNormal", "RadialStudentT", "RadialTruncatedNormal", "RadialGamma")),
    ("PowerSpherical", "concentration", 1.0, 5.0, narrows),
    ("VonMisesFisher", "concentration", 1.0, 5.0, narrows),
    *((name, "df", 1.0, 9.0, lightens_the_tail) for name in (
        "SphericalStudentT", "ProjectedStudentT", "RadialStudentT")),
    ("RadialStudentT", "normalized", False, True, normalises),
    ("SphericalNormal", "normalized", False, True, refers),
    ("SphericalStudentT", "normalized", False, True, refers),
    *((name, "min_scale", 1e-3, 1.0, bounds_guide) for name in GUIDES),
    *((name, "max_scale", 1e2, 1.0, bounds_guide) for name in GUIDES),
    ("DiagonalNormal", "shared_scale", True, False, shares_scale),
    ("LowRankNormal", "rank", 1, 3, rank),
    ("AffineCouplingFlow", "num_flows", 2, 5, couplings),
    ("NormalPrior", "scale", 1.0, 2.0, scales_z),
    ("StudentTPrior", "scale", 1.0, 2.0, scales_z),
    ("StudentTPrior", "df", 3.0, 30.0, lightens_the_prior),
    ("MixturePrior", "scale", 1.0, 2.0, spreads),
    ("VampPrior", "scale", 1.0, 2.0, spreads),
    *((name, "weight", 1.0, 2.0, factor) for name in (
        "SlicedEppsPulley", "SlicedWasserstein", "VarianceCovariance")),
    ("SlicedEppsPulley", "num_directions", 8, 64, averages),
    ("SlicedWasserstein", "num_directions", 8, 64, averages),
    ("SlicedEppsPulley", "num_points", 5, 17, integrates),
]  # fmt: skip
ELSEWHERE = {
    "test_contract.py: the teacher follows": [
        ("BYOL", "momentum"), ("MoCoV3", "momentum"), ("VSSL", "momentum"),
        ("VJE", "target_momentum")],
    "the formulas written by hand": [
        ("VSSL", "kl"), ("VSSL", "likelihood"), ("VISimSiam", "law"), ("MCInfoNCE", "law"),
        ("VJE", "direction")],
    "test_swapping.py": [("VJE", "guide"), ("VJE", "prior")],
    "test_objectives.py": [
        ("VJE", "objective"), ("VJE", "latents"), ("VJE", "alignment"), ("VJE", "num_data"),
        *(("GlobalLatents", f"{law}_{p}")
          for law in ("direction", "radius") for p in ("df", "scale"))],
    "test_many_views.py": [("ManyViews", "num_latents"), ("ManyViews", "hidden_features")],
}  # fmt: skip
"""Knobs whose effect another file computes."""


@pytest.mark.parametrize(
    ("kind", "knob", "a", "b", "assert_relation"),
    KNOBS,
    ids=[
        f"{kind}-{knob}-{b if isinstance(b, (int, float, str)) else ''}"
        for kind, knob, _, b, _ in KNOBS
    ],
)
def test_every_knob_has_the_effect_that_its_formula_says(kind, knob, a, b, assert_relation):
    torch.manual_seed(0)
    assert_relation(kind, knob, a, b)


def test_every_knob_has_a_row():
    given = {"encoder", "num_features", "loc", "validate_args", "dim", "batch_shape"}
    wanted = {
        (name, knob)
        for room in (models, guides, priors, distributions)
        for name in room.__all__
        if inspect.isclass(getattr(room, name))
        and name not in ("AmortisedGuide", "Inferred", "Prior")
        for knob in inspect.signature(getattr(room, name)).parameters
    } | {
        (name, knob)
        for name in ("SlicedEppsPulley", "SlicedWasserstein", "VarianceCovariance")
        for knob in inspect.signature(getattr(inference, name)).parameters
    }
    wanted = {(name, knob) for name, knob in wanted if knob not in given}
    rows = {(kind, knob) for kind, knob, *_ in KNOBS} | {
        row for some in ELSEWHERE.values() for row in some
    }
    assert wanted - rows == set()
    assert rows - wanted == set()
