"""Colour jitter as one affine map of the channels per image.

Brightness, contrast, saturation, hue and grayscale are all affine in (R, G, B) once hue is a
rotation of the chroma plane of YIQ, so a whole jitter is one 3 x 4 matrix per image: one pass over
the pixels. The rotation is an approximation of a shift of HSV hue: it keeps luma instead of value.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in the luma Y of ITU-R BT.601; they sum to one."""


def chroma_basis() -> tuple[Tensor, Tensor, Tensor]:
    """The three 3 x 3 matrices of which every saturation-and-hue change is a combination.

    Returns:
        ``(grey, chroma, quarter)``: projection on luma, what is left of the colour, and the chroma
        turned by 90 degrees in the direction of increasing HSV hue. A saturation ``s`` with a turn
        by ``t`` is ``grey + s cos(t) chroma + s sin(t) quarter``.
    """
    luma = torch.tensor(LUMA, dtype=torch.float64)
    yiq = torch.stack(
        [
            luma,
            torch.tensor([0.5959, -0.2746, -0.3213], dtype=torch.float64),
            torch.tensor([0.2115, -0.5227, 0.3112], dtype=torch.float64),
        ]
    )
    yiq[1:] -= yiq[1:].mean(1, keepdim=True)  # grey has no chroma, exactly
    turn = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
    grey = luma.expand(3, 3)
    quarter = torch.linalg.inv(yiq) @ turn @ yiq
    basis = (grey, torch.eye(3, dtype=torch.float64) - grey, quarter)
    return basis[0].float(), basis[1].float(), basis[2].float()


def saturation_hue_matrix(saturation: Tensor, turn: Tensor, basis: Tensor) -> Tensor:
    """Matrices ``(*batch, 3, 3)`` for factors ``saturation`` and angles ``turn`` in radians.

    ``basis`` is ``chroma_basis()`` stacked, ``(3, 3, 3)``. Saturation 0 is grayscale; grey is a
    fixed point of every matrix.
    """
    along = (saturation * turn.cos())[..., None, None]
    across = (saturation * turn.sin())[..., None, None]
    return basis[0] + along * basis[1] + across * basis[2]
