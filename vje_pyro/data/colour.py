"""Colour jitter as one affine map of the channels per image.

Brightness, contrast, saturation, hue and grayscale are all affine in (R, G, B) once hue is a turn
about the grey axis, so a whole jitter is one 3 x 4 matrix per image: one pass over the pixels.
The turn is a shift of HSV hue at thirds of a circle, where it exchanges the channels. In between it
keeps the mean of the channels instead of their maximum, and differs from HSV's by about two thirds
of the change itself (muted random colours, a tenth of a turn): another colour of the same strength.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in the luma Y of ITU-R BT.601; they sum to one."""


def chroma_basis() -> Tensor:
    """The 3 x 3 matrices of which every saturation-and-hue change is a combination.

    Returns:
        Shape ``(4, 3, 3)``: ``grey`` projects on luma (what no saturation leaves); ``lift`` is the
        difference of the projections on mean and on luma; ``chroma`` takes the mean away;
        ``quarter`` turns the chroma by 90 degrees in the direction of increasing HSV hue.
    """
    eye = torch.eye(3, dtype=torch.float64)
    grey = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)
    mean = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    # cross product with the unit vector along grey
    quarter = (eye.roll(1, 0) - eye.roll(-1, 0)) / 3**0.5
    return torch.stack([grey, mean - grey, eye - mean, quarter]).float()


def saturation_hue_matrix(saturation: Tensor, turn: Tensor, basis: Tensor) -> Tensor:
    """The matrix that blends with luma, then turns the hue.

    With grey projection G, mean projection M and turn ``R = M + cos(t) (I - M) + sin(t) K``, it is
    ``R (G + s (I - G)) = G + s [(M - G) + cos(t) (I - M) + sin(t) K]``. Saturation 0 is grayscale,
    and grey is a fixed point of every matrix.

    Args:
        saturation: Factors s, any shape.
        turn: Angles t in radians, of the same shape.
        basis: ``chroma_basis()``.

    Returns:
        Shape ``(*batch, 3, 3)``.
    """
    saturation, turn = saturation[..., None, None], turn[..., None, None]
    grey, lift, chroma, quarter = basis
    return grey + saturation * (lift + turn.cos() * chroma + turn.sin() * quarter)
