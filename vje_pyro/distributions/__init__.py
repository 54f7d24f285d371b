"""Distributions of directions and radii, one file each, used as ``pyro.distributions`` are."""

import vje_pyro.distributions.gaussian_kl  # noqa: F401 – registers a KL
from vje_pyro.distributions.power_spherical import PowerSpherical
from vje_pyro.distributions.projected_normal import ProjectedNormal
from vje_pyro.distributions.projected_student_t import ProjectedStudentT
from vje_pyro.distributions.radial_gamma import RadialGamma
from vje_pyro.distributions.radial_log_normal import RadialLogNormal
from vje_pyro.distributions.radial_student_t import RadialStudentT
from vje_pyro.distributions.radial_truncated_normal import RadialTruncatedNormal
from vje_pyro.distributions.spherical_normal import SphericalNormal
from vje_pyro.distributions.spherical_student_t import SphericalStudentT
from vje_pyro.distributions.spherical_uniform import SphericalUniform
from vje_pyro.distributions.von_mises_fisher import VonMisesFisher

__all__ = [
    "PowerSpherical",
    "ProjectedNormal",
    "ProjectedStudentT",
    "RadialGamma",
    "RadialLogNormal",
    "RadialStudentT",
    "RadialTruncatedNormal",
    "SphericalNormal",
    "SphericalStudentT",
    "SphericalUniform",
    "VonMisesFisher",
]
