"""Distributions of directions and radii, one file each, used as ``pyro.distributions`` are."""

from vje_pyro.distributions.radial_student_t import RadialStudentT
from vje_pyro.distributions.spherical_student_t import SphericalStudentT

__all__ = ["RadialStudentT", "SphericalStudentT"]
