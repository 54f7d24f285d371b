"""The one table of distributions: every generic test runs on every row.

To test a new distribution, add a row; only what is peculiar to the class needs tests of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import normalize

from vje_pyro.distributions import (
    PowerSpherical,
    ProjectedNormal,
    ProjectedStudentT,
    RadialGamma,
    RadialLogNormal,
    RadialStudentT,
    RadialTruncatedNormal,
    SphericalNormal,
    SphericalStudentT,
    VonMisesFisher,
)

# Bad arguments and the message that names them: of every direction, every radius, every df.
BAD_DIRECTION: tuple[tuple[dict[str, Any], str], ...] = (
    ({"loc": torch.eye(2)[0]}, r"at least 3 dimensions, got loc of shape \(2,\)"),
    ({"loc": torch.ones(4)}, "parameter loc"),
    ({"scale": -1.0}, "parameter scale"),
    ({"scale": float("nan")}, "parameter scale"),
    ({"scale": torch.ones(3)}, "(?i)shape mismatch|broadcast"),
)
BAD_RADIUS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"loc": torch.tensor(-1.0)}, "parameter loc"),
    ({"loc": torch.tensor(float("nan"))}, "parameter loc"),
    ({"scale": 0.0}, "parameter scale"),
)
BAD_DF: tuple[tuple[dict[str, Any], str], ...] = (
    ({"df": 0.0}, "parameter df"),
    ({"df": -2.0}, "parameter df"),
    ({"df": float("inf")}, "parameter df"),
)


@dataclass(frozen=True)
class Row:
    """One distribution with its own parameters, and what the generic tests may ask of it.

    Attributes:
        id: Name in the test report.
        kind: ``"direction"``, called with loc (..., D) and scale (..., D), or ``"radius"``.
        cls: The class.
        own: Positive parameters beside loc and scale, differentiable, of the batch's shape.
        options: Keywords that are not tensors.
        mass: Mass of the law, below one, at D = 3 as above; None where the mass is one.
        bad: Arguments replaced by bad ones, and a pattern of the error's message.
        rsample: Whether draws carry pathwise gradients.
        unequal_scales: Whether the density depends on more than one number of the scale.
        sample_only_below: A scale above which the sampler (by rejection) is hopeless.
    """

    id: str
    kind: str
    cls: type[TorchDistribution]
    own: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    mass: Callable[[Any], Tensor] | None = None
    bad: tuple[tuple[dict[str, Any], str], ...] = ()
    rsample: bool = False
    unequal_scales: bool = True
    sample_only_below: float = float("inf")

    def parameters(
        self,
        dim: int = 4,
        scale: float = 0.4,
        dtype: torch.dtype = torch.float64,
        batch: tuple[int, ...] = (),
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """Fresh tensors: random directions (or radii about 2) and unequal scales about ``scale``.

        The same seed gives the same numbers in every dtype, up to rounding.
        """
        generator = torch.Generator().manual_seed(seed)
        event = (dim,) if self.kind == "direction" else ()

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float64, generator=generator)

        if self.kind == "direction":
            loc = normalize(random(*batch, *event).to(dtype), dim=-1)
        else:
            loc = 2 * torch.exp(0.2 * random(*batch))
        scales = scale * torch.exp(0.3 * random(*batch, *event).clamp(-2, 2))
        own = {name: torch.full(batch, x) for name, x in self.own.items()}
        tensors = {"loc": loc, "scale": scales} | own
        return {name: x.to(dtype) for name, x in tensors.items()}

    def build(self, parameters: dict[str, Tensor], **kwargs: Any) -> Any:
        """The law with these parameters."""
        return self.cls(**parameters, **self.options, **kwargs)

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """The law with :meth:`parameters` of these arguments."""
        return self.build(self.parameters(*args, **kwargs))


def _mass(law: Any) -> Tensor:
    return law.log_mass.exp()


DF, WHOLE = {"df": 2.0}, {"normalized": True}
FEW = {"sample_only_below": 1.0}
ROWS = [
    Row("spherical_student_t", "direction", SphericalStudentT, own=DF, mass=_mass,
        bad=BAD_DIRECTION + BAD_DF, **FEW),
    Row("spherical_student_t_normalized", "direction", SphericalStudentT, own=DF, options=WHOLE,
        bad=BAD_DIRECTION + BAD_DF, **FEW),
    Row("spherical_normal", "direction", SphericalNormal, mass=_mass, bad=BAD_DIRECTION, **FEW),
    Row("spherical_normal_normalized", "direction", SphericalNormal, options=WHOLE,
        bad=BAD_DIRECTION, **FEW),
    Row("projected_student_t", "direction", ProjectedStudentT, own=DF,
        bad=BAD_DIRECTION + BAD_DF, rsample=True),
    Row("projected_normal", "direction", ProjectedNormal, bad=BAD_DIRECTION, rsample=True),
    Row("radial_student_t", "radius", RadialStudentT, own=DF, mass=_mass, bad=BAD_RADIUS + BAD_DF),
    Row("radial_student_t_normalized", "radius", RadialStudentT, own=DF, options=WHOLE,
        bad=BAD_RADIUS + BAD_DF),
    Row("von_mises_fisher", "direction", VonMisesFisher, bad=BAD_DIRECTION, unequal_scales=False),
    Row("power_spherical", "direction", PowerSpherical, bad=BAD_DIRECTION, rsample=True,
        unequal_scales=False),
    Row("radial_log_normal", "radius", RadialLogNormal, bad=BAD_RADIUS, rsample=True),
    Row("radial_gamma", "radius", RadialGamma, bad=BAD_RADIUS, rsample=True),
    Row("radial_truncated_normal", "radius", RadialTruncatedNormal, bad=BAD_RADIUS, rsample=True),
]  # fmt: skip

DIRECTIONS = [row for row in ROWS if row.kind == "direction"]
RADII = [row for row in ROWS if row.kind == "radius"]
