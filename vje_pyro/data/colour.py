"""Colour jitter as one affine map of the channels per image.

Brightness, contrast, saturation, hue and grayscale are all affine in (R, G, B) once hue is a turn
about the grey axis, so a whole jitter is one 3 x 4 matrix per image. The turn is a shift of HSV hue
at thirds of a circle; in between it keeps the mean of the channels instead of their maximum.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in the luma Y of ITU-R BT.601; they sum to one."""


def chroma_basis() -> Tensor:
    """The 3 x 3 matrices of which every saturation-and-hue change is a combination, ``(4, 3, 3)``.

    ``grey`` projects on luma; ``lift`` is the difference of the projections on mean and on luma;
    ``chroma`` takes the mean away; ``quarter`` turns the chroma by 90 degrees in the direction of
    increasing HSV hue.
    """
    eye = torch.eye(3, dtype=torch.float64)
    grey = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)
    mean = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    # cross product with the unit vector along grey
    quarter = (eye.roll(1, 0) - eye.roll(-1, 0)) / 3**0.5
    return torch.stack([grey, mean - grey, eye - mean, quarter]).float()


def saturation_hue_matrix(saturation: Tensor, turn: Tensor, basis: Tensor) -> Tensor:
    """The matrix ``(*batch, 3, 3)`` that blends with luma by factors s, then turns the hue by t.

    With grey projection G, mean projection M and turn ``R = M + cos(t) (I - M) + sin(t) K`` it is
    ``R (G + s (I - G)) = G + s [(M - G) + cos(t) (I - M) + sin(t) K]``; t is in radians.
    """
    saturation, turn = saturation[..., None, None], turn[..., None, None]
    grey, lift, chroma, quarter = basis
    return grey + saturation * (lift + turn.cos() * chroma + turn.sin() * quarter)
