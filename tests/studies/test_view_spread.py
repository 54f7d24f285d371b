"""The spread of views as an uncertainty, on a made-up run whose errors it knows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from studies.view_spread import NUM_VIEWS, view_spread
from vje_pyro.data import ImageArray
from vje_pyro.encoders import Identity
from vje_pyro.method import ProbabilisticMethod


class Method(ProbabilisticMethod):
    """The embedding of an image is its first two pixels, less their middle."""

    loss = infer = log_likelihood = None

    def __init__(self):
        super().__init__(Identity(2))
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def embed(self, images):
        return images.flatten(1)[:, :2].float() - 128

    def uncertainty(self, images):
        return images.flatten(1)[:, 2].float()


def test_auroc_for_errors():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 2, 300))
    pixels = torch.from_numpy(rng.integers(0, 256, (300, 3, 2, 2), dtype=np.uint8))
    pixels.flatten(1)[:, 0] = torch.where(labels == 1, 200, 50).to(torch.uint8)
    wrong = torch.arange(300) % 5 == 0  # the label of another class
    split = ImageArray(pixels, torch.where(wrong, 1 - labels, labels))
    method = Method().eval()
    width = torch.where(wrong, 0.8, 0.1)[:, None]
    views = torch.tensor([1.0, 0.0]) + width * torch.randn(NUM_VIEWS, 300, 2)
    run = SimpleNamespace(
        method=method, normalize=lambda x: x, device=torch.device("cpu"), config={},
        info={"seed": 3}, embed=method.embed, embed_views=lambda images, number, seed: views,
        uncertainty=method.uncertainty,
        source=SimpleNamespace(name="made-up", channels=3, image_size=2,
                               split={"train": ImageArray(pixels, labels),
                                      "validation": split}.__getitem__),
    )  # fmt: skip
    result = view_spread(run, 300)
    assert result.seed == 3
    assert result.details == {"error_knn": 0.2, "error_linear": 0.2}
    spread = 1 - torch.nn.functional.normalize(views, dim=-1).mean(0).norm(dim=-1)
    for classifier in ("knn", "linear"):
        figure = result.figures[f"auroc_views_{classifier}"]
        assert figure.value == pytest.approx(roc_auc_score(wrong, spread), abs=1e-6)
        assert figure.value > 0.9
        uninformed = roc_auc_score(wrong, pixels.flatten(1)[:, 2])
        assert result.figures[f"auroc_posterior_{classifier}"].value == pytest.approx(uninformed)
