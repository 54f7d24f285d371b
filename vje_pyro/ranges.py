"""Numbers with a range, as annotations of the constructors that take them.

They are plain ``int`` and ``float`` to Python and to type checkers; a configuration is checked
against them before anything is made of it (:mod:`vje_pyro.checking`).
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

_INT32 = 2**31 - 1

NonNegativeInt = Annotated[int, Ge(0), Le(_INT32)]
PositiveInt = Annotated[int, Ge(1), Le(_INT32)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""What NumPy, scikit-learn and torch all take as a seed."""
Width = Annotated[int, Ge(1), Le(65536)]
"""Features: a square matrix of the most has 16 GiB as float32."""
Channels = Annotated[int, Ge(1), Le(3)]
"""Of images: 1, grey, or 3, colour; who takes it refuses 2."""
Depth = Annotated[int, Ge(1), Le(1024)]
"""Layers."""
ImageSize = Annotated[int, Ge(1), Le(8192)]
"""Pixels of a side."""
Particles = Annotated[int, Ge(1), Le(65536)]
"""Random draws that are held at once."""

NonNegativeFloat = Annotated[float, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
Probability = Annotated[float, Ge(0), Le(1)]
"""A probability or a share, 0 and 1 included."""
Share = Annotated[float, Gt(0), Le(1)]
"""A share that is not nothing."""
ProperFraction = Annotated[float, Ge(0), Lt(1)]
"""A share that is not all."""
