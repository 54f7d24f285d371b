"""linear-v1 and linear-sgd-v1: how well a linear classifier reads the frozen features.

linear-v1 is convex and has one answer: multinomial logistic regression on features standardised
with the training split's statistics, L2 penalty ‖W‖² / (2 C) beside the *sum* of the log losses,
C = 1 (scikit-learn's default; not tuned), L-BFGS to a gradient of 1e-4.

linear-sgd-v1 is for comparison with tables made by solo-learn's offline evaluation (da Costa et
al., JMLR 2022): SGD with momentum 0.9, learning rate 0.1 divided by ten after epochs 60 and 80,
100 epochs, batch 256, no weight decay, raw features. One thing differs: there the images are
augmented (crop and flip) in every epoch; here the features are extracted once, unaugmented.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vje_pyro.errors import NonFiniteError

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]

C = 1.0
TOLERANCE = 1e-4
MAX_ITERATIONS = 10_000

EPOCHS = 100
BATCH_SIZE = 256
LEARNING_RATE = 0.1
MOMENTUM = 0.9
MILESTONES = (60, 80)


@dataclass(frozen=True)
class LinearProbe:
    """A classifier on standardised features, as :func:`fit_linear` returns it."""

    scaler: StandardScaler
    classifier: LogisticRegression

    def predict(self, x: Floats) -> Labels:
        """Predicted classes, shape ``(M,)``, of raw features ``(M, D)``."""
        labels: Labels = self.classifier.predict(self.scaler.transform(x))
        return labels

    @property
    def iterations(self) -> int:
        """How many L-BFGS iterations the fit took."""
        return int(self.classifier.n_iter_.max())


def fit_classifier(x: Floats, y: Labels) -> LogisticRegression:
    """Fit the logistic regression of linear-v1 to features that are standardised already.

    A fit that needs more than ``MAX_ITERATIONS`` warns (``ConvergenceWarning``).

    Args:
        x: Standardised features, shape ``(N, D)``.
        y: Classes, shape ``(N,)``; at least two different ones.

    Raises:
        ValueError: If there is only one class, or a feature is not finite.
    """
    return LogisticRegression(C=C, tol=TOLERANCE, max_iter=MAX_ITERATIONS).fit(x, y)


def fit_linear(train_x: Floats, train_y: Labels) -> LinearProbe:
    """Fit linear-v1 to raw features; arguments and errors as :func:`fit_classifier`."""
    scaler = StandardScaler().fit(train_x)
    return LinearProbe(scaler, fit_classifier(scaler.transform(train_x), train_y))


def linear_predict(train_x: Floats, train_y: Labels, test_x: Floats) -> Labels:
    """Predictions of linear-v1, shape ``(M,)``; arguments and errors as :func:`fit_linear`."""
    return fit_linear(train_x, train_y).predict(test_x)


def linear_sgd_predict(
    train_x: Floats,
    train_y: Labels,
    test_x: Floats,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Labels:
    """Predictions of linear-sgd-v1, shape ``(M,)``.

    Weights start at zero and batches come from a private generator, so the global random state
    is neither used nor changed.

    Args:
        train_x: Features, shape ``(N, D)``; they must fit on the device.
        train_y: Classes, shape ``(N,)``, 0 … C - 1.
        test_x: Features, shape ``(M, D)``.
        seed: Seed of the order of the batches.
        device: Where to train.

    Raises:
        NonFiniteError: If training diverges.
    """
    x = torch.as_tensor(train_x, dtype=torch.float32, device=device)
    y = torch.as_tensor(train_y, dtype=torch.int64, device=device)
    probe = _train_sgd(x, y, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits = probe(torch.as_tensor(test_x, dtype=torch.float32, device=device))
    if not logits.isfinite().all():
        raise NonFiniteError(
            f"the SGD probe diverged at learning rate {LEARNING_RATE}: features with a mean square "
            f"norm of {float(x.square().sum(1).mean()):.3g} are too large for it; "
            "use linear-v1, which standardises"
        )
    labels: Labels = logits.argmax(dim=1).cpu().numpy()
    return labels


def _train_sgd(x: Tensor, y: Tensor, generator: torch.Generator) -> nn.Linear:
    probe = nn.utils.skip_init(nn.Linear, x.shape[1], int(y.max()) + 1, device=x.device)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.SGD(probe.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(MILESTONES), gamma=0.1)
    # All at once: the host waits for the device when it copies.
    orders = torch.stack([torch.randperm(len(x), generator=generator) for _ in range(EPOCHS)])
    for order in orders.to(x.device):
        for batch in order.split(BATCH_SIZE):
            optimizer.zero_grad()
            cross_entropy(probe(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    return probe
