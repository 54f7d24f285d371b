"""Outlier scores that need the training labels: the linear probe's, and detectors of pytorch-ood.

Detectors of pytorch-ood (Kirchheim, Filax & Ortmeier, CVPR workshops 2022) are used as they are,
on the encoder's features and with the probe of linear-v1 as the classifier's head.
"""

import logging
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn

from vje_pyro.errors import VJEError
from vje_pyro.evaluation.detectors import Detector
from vje_pyro.evaluation.features import Features
from vje_pyro.evaluation.linear import LinearProbe

PYTORCH_OOD = ("class-mahalanobis", "rmd", "vim", "she", "fdbd")
"""Names of the scores, by way of pytorch-ood."""


def probe_entropy(probe: LinearProbe) -> Detector:
    """Entropy of the probe's predicted classes, in nats."""

    def score(x: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = probe.classifier.decision_function(probe.scaler.transform(x).astype(np.float64))
        if logits.ndim == 1:  # scikit-learn's form for two classes
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        log_p = log_softmax(logits, axis=1)
        entropy: NDArray[np.float64] = -(np.exp(log_p) * log_p).sum(1)
        return entropy

    return score


def probe_head(probe: LinearProbe) -> nn.Linear:
    """The probe as one linear layer on raw features, its standardisation folded in."""
    weight, bias = probe.classifier.coef_, probe.classifier.intercept_
    if len(bias) == 1:
        weight, bias = np.vstack([0 * weight, weight]), np.append(0.0, bias)
    weight = weight / probe.scaler.scale_
    bias = bias - weight @ probe.scaler.mean_
    head = nn.utils.skip_init(nn.Linear, weight.shape[1], len(bias))
    head.weight.data, head.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    return head.requires_grad_(False)


def has_pytorch_ood() -> bool:
    """Whether the extra is installed."""
    return find_spec("pytorch_ood") is not None


def pytorch_ood_detectors(train: Features, probe: LinearProbe) -> dict[str, Detector]:
    """Fitted detectors of pytorch-ood by the name of their score.

    Args:
        train: Labelled training features.
        probe: Linear probe on the same.

    Raises:
        VJEError: If pytorch-ood is not installed.
    """
    package = _package()
    head = probe_head(probe)
    features = torch.from_numpy(train.x)
    _, labels = torch.from_numpy(train.y).unique(return_inverse=True)
    half = train.x.shape[1] // 2  # the paper's dimension of the principal space below 768 features
    made = (
        package.Mahalanobis(None),
        package.RMD(None),
        package.ViM(None, half, head.weight, head.bias),
        package.SHE(None, head),
        package.fDBD(nn.Identity(), head),
    )
    fitted = (detector.fit_features(features, labels) for detector in made)
    return {name: _scores(d) for name, d in zip(PYTORCH_OOD, fitted, strict=True)}


def _scores(detector: nn.Module) -> Detector:
    @torch.no_grad()
    def score(x: NDArray[np.float32]) -> NDArray[np.float64]:
        scores: Tensor = detector.predict_features(torch.from_numpy(x))  # type: ignore[operator]
        result: NDArray[np.float64] = scores.double().numpy()
        return result

    return score


def _package() -> ModuleType:
    try:
        import pytorch_ood.detector as package  # type: ignore[import-untyped]
    except ImportError as error:
        raise VJEError(
            f"the detectors {', '.join(PYTORCH_OOD)} need pytorch-ood: "
            f"pip install 'vje-pyro[ood]' ({error})."
        ) from error
    logging.getLogger("pytorch_ood").setLevel(logging.WARNING)
    module: ModuleType = package
    return module
