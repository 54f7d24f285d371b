"""Numbers of more than 8 bits as grey values: one range for all images of a data set."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

ValueRange = tuple[float, float]
"""Values that become black and white: whole numbers for images of integers, floating-point numbers
for images of floating-point numbers."""


def common_range(extents: Iterable[ValueRange]) -> ValueRange | None:
    """The range of a data set whose images have these least and greatest values.

    Integers from zero take the least of 8, 10, 12, 14 or 16 bits that holds them all,
    floating-point numbers [0, 1] or else such a number of bits. Others range from the least to the
    greatest; None where there are no images.

    Raises:
        ValueError: If some are integers and some floating-point numbers.

    >>> common_range([(3, 900), (0, 4000)])
    (0, 4095)
    """
    ends = [end for pair in extents for end in pair]
    if not ends:
        return None
    if len({type(end) for end in ends}) > 1:
        raise ValueError(
            "some grey images hold integers and some floating-point numbers: convert one kind"
        )
    low, high, number = min(ends), max(ends), type(ends[0])
    if number is float and 0 <= low <= high <= 1:
        return 0.0, 1.0
    tops = [2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits]
    if low < 0 or not tops:
        return low, high if high > low else number(low + 1)
    return number(0), number(tops[0])


def is_floating(value_range: ValueRange) -> bool:
    """Whether a range is of floating-point numbers."""
    return any(isinstance(end, float) for end in value_range)


def checked_range(ends: Sequence[float] | None) -> ValueRange | None:
    """A range from a configuration; ValueError if it is not two numbers, the lower first."""
    if ends is None:
        return None
    low, high = ends if len(ends) == 2 else (0, 0)
    if not low < high:
        raise ValueError(
            f"value_range must be [black, white] in increasing order, got {list(ends)}"
        )
    return low, high


def to_eight_bits(
    values: NDArray[np.generic], value_range: ValueRange | None = None
) -> NDArray[np.uint8]:
    """Values of more than 8 bits as uint8; of 2^k integers from zero the upper eight bits are kept.

    Args:
        values: Integers or floating-point numbers, any shape.
        value_range: Values that become 0 and 255; None: 0 and 65535 of integers, 0 and 1 of
            floating-point numbers.

    Raises:
        ValueError: If a value is not finite, the range is of the other kind of numbers, or there is
            none and values lie outside of what holds without one.
    """
    floating = values.dtype.kind == "f"
    if not np.isfinite(values).all():
        raise ValueError("values that are NaN or infinite")
    low, high = value_range or ((0.0, 1.0) if floating else (0, 65535))
    least, greatest = values.min(), values.max()
    here = "floating-point numbers" if floating else "integers"
    if floating != is_floating((low, high)):
        raise ValueError(
            f"the images hold {here}, but the value range {[low, high]} is of the other kind "
            "(numbers with a decimal point are floating-point numbers)"
        )
    if value_range is None and not (least >= low and greatest <= high):
        raise ValueError(
            f"{here} from {least:g} to {greatest:g} are beyond {low:g} to {high:g}: set "
            "data.value_range=[black,white]"
        )
    clipped = values.astype(np.float64).clip(low, high) - low
    if floating:
        return np.rint(clipped * (255 / (high - low))).astype(np.uint8)
    return np.floor(clipped * (256 / (high - low + 1))).astype(np.uint8)
