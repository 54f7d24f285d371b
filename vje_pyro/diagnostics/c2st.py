r"""Can a classifier tell the guide's draws from those of NUTS?

A two-sample test in the guide's units, :math:`e = (z - \mu)/\sigma`. A logistic regression on e
and e², whose log odds are those of any two diagonal Gaussians, is trained on the draws of all
images but one and judged on that one. If both laws are one, it is right in half of the cases. Draws
of NUTS depend on each other, images do not: so the accuracies of images are the sample, and the
null interval is that of their mean. Wrong correlations of features are not looked for.

Source: Lopez-Paz & Oquab, "Revisiting classifier two-sample tests" (arXiv 1610.06545).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t
from torch import Tensor

from vje_pyro.diagnostics.check import Arrays, Check, Figures, Shown, Verdict
from vje_pyro.diagnostics.nuts import NutsComparison, compare_with_nuts
from vje_pyro.errors import VJEError

_LEVEL = 0.01
_MIN_IMAGES = 4


@dataclass(frozen=True)
class C2ST:
    """Accuracy of a classifier that tells the guide's draws from those of NUTS.

    Args:
        accuracy: On the draws of each image, learned from those of the others, ``(n,)``.
        num_draws: Draws of an image from each of the two.
        r_hat_max: Largest split R-hat of NUTS: far above 1.1, NUTS has not converged.
        joint: Whether the posterior is that of all views.
    """

    accuracy: Tensor
    num_draws: int
    r_hat_max: float
    joint: bool

    @property
    def error(self) -> float:
        """Standard error of the mean accuracy over images, by their spread.

        At least that of independent draws: equal accuracies of few images are chance.
        """
        spread = max(self.accuracy.std().item(), math.sqrt(0.25 / (2 * self.num_draws)))
        return spread / math.sqrt(len(self.accuracy))

    @property
    def null_interval(self) -> tuple[float, float]:
        """Where the mean accuracy lies with 99 % if the two laws are one."""
        width = float(student_t.ppf(1 - _LEVEL / 2, len(self.accuracy) - 1)) * self.error
        return 0.5 - width, 0.5 + width

    @property
    def p_value(self) -> float:
        """Of a one-sided t-test of the mean accuracy against one half."""
        statistic = (self.accuracy.mean().item() - 0.5) / self.error
        return float(student_t.sf(statistic, len(self.accuracy) - 1))

    @property
    def verdict(self) -> Verdict:
        """Whether the classifier is better than chance, at 1 %."""
        accuracy = f"a classifier tells them apart in {100 * self.accuracy.mean().item():.1f} %"
        if self.p_value >= _LEVEL:
            return Verdict(False, f"guide and NUTS draw alike: {accuracy}, by chance in 50 %.")
        seen = "" if self.joint else " The guide has not seen the target, which is part of it."
        doubt = "" if self.r_hat_max < 1.1 else " But NUTS has not converged: warm up for longer."
        return Verdict(
            True,
            f"the guide is not the posterior: {accuracy}, by chance in 50 %.{seen}{doubt} See "
            f"blocks for where, nuts for means and scales.",
        )

    def summary(self) -> dict[str, Any]:
        """Figures for a JSON."""
        low, high = self.null_interval
        return {
            "num_images": len(self.accuracy),
            "num_draws": self.num_draws,
            "accuracy": self.accuracy.mean().item(),
            "accuracies": self.accuracy.tolist(),
            "null_low": low,
            "null_high": high,
            "p_value": self.p_value,
            "level": _LEVEL,
            "r_hat_max": self.r_hat_max,
        }


def classifier_test(comparison: NutsComparison) -> C2ST:
    """Classify the draws of a comparison with NUTS, as this module's text says.

    Raises:
        VJEError: If there are fewer than 4 images.
    """
    exact = comparison.run.draws.flatten(0, 1)
    accuracy = accuracies(
        *((z - comparison.guide_mean) / comparison.guide_scale for z in (comparison.draws, exact))
    )
    r_hat = comparison.run.r_hat.max().item()
    return C2ST(accuracy, len(exact), r_hat, comparison.joint)


def accuracies(first: Tensor, second: Tensor) -> Tensor:
    """Accuracy on the draws of each image, learned from the others', ``(n,)`` float64.

    Args:
        first: Draws of one law in units that serve all images, ``(S, n, D)``.
        second: As many of the other.

    Raises:
        VJEError: If there are fewer than 4 images.
    """
    # scikit-learn takes a second to import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    num_images = first.shape[1]
    if num_images < _MIN_IMAGES:
        raise VJEError(
            f"the classifier learns from some images and is judged on others: it needs "
            f"{_MIN_IMAGES} images or more, got {num_images}."
        )
    e = torch.cat([first, second]).float()
    image = np.tile(np.arange(num_images), len(e))
    label = np.repeat([0, 1], len(first) * num_images)
    e = e.flatten(0, 1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    columns = torch.cat([e, e.square()], -1).numpy()
    scores = cross_val_score(classifier, columns, label, groups=image, cv=LeaveOneGroupOut())
    return torch.from_numpy(scores)


def _show(figures: Figures, arrays: Arrays) -> Shown:
    low, high = 100 * figures["null_low"], 100 * figures["null_high"]
    return Shown(
        [
            ("accuracy", f"{100 * figures['accuracy']:.1f} %"),
            ("by chance, 99 %", f"{low:.1f} % to {high:.1f} %"),
            ("p-value, over images", f"{figures['p_value']:.2g}, {figures['num_images']} images"),
        ]
    )


CHECK = Check(
    "Can a classifier separate the guide from NUTS?",
    "A logistic regression on standardised draws and their squares learns from all images but one "
    "and is judged on that one. If guide and posterior are one law, it is right in half of the "
    "cases.",
    lambda data: classifier_test(data.once(compare_with_nuts)),
    _show,
    slow=True,
)
