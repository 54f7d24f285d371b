"""Joint embedding against reconstruction, in closed form: ``vje closed-form``.

Source: Van Assel, Ibrahim, Biancalani, Regev & Balestriero, "Joint-Embedding vs Reconstruction:
Provable Benefits of Latent Space Prediction for Self-Supervised Learning" (arXiv 2505.12477).
"""

from vje_pyro.closed_form.solutions import (
    LinearAutoencoder,
    ViewMoments,
    joint_embedding,
    reconstruction,
    view_moments,
)
from vje_pyro.closed_form.thresholds import Thresholds, alignment_thresholds

__all__ = [
    "LinearAutoencoder",
    "Thresholds",
    "ViewMoments",
    "alignment_thresholds",
    "joint_embedding",
    "reconstruction",
    "view_moments",
]
