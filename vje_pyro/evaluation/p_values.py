"""From outlier scores to p-values: how many images in distribution score as high?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vje_pyro.scores import check_scores


class ConformalPValue:
    r"""p-value of an outlier score among the scores of other images in distribution.

    .. math:: p(t) = \frac{1 + \#\{i : t_i \ge t\}}{1 + n}

    Of an image that is exchangeable with those n, :math:`P(p \le \alpha) \le \alpha`, and to 1/n
    equal: a threshold of 5 % gives 5 % false alarms.

    Args:
        calibration: Scores of n images in distribution that the score was not fitted to, ``(n,)``.

    Raises:
        ValueError: If there are no scores.
        NonFiniteError: If a score is NaN.

    Source: Bates, Candès, Lei, Romano & Sesia, "Testing for outliers with conformal p-values"
    (Annals of Statistics 2023), equation 2.

    Example:
        >>> ConformalPValue([1.0, 2.0, 3.0, 4.0])([0.0, 3.5, 9.0]).tolist()
        [1.0, 0.4, 0.2]
    """

    def __init__(self, calibration: ArrayLike) -> None:
        self.sorted = np.sort(check_scores(calibration, "calibration images"))

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """p-values of scores ``(N,)``, in (0, 1]."""
        values = check_scores(scores, "images")
        above = len(self.sorted) - np.searchsorted(self.sorted, values, side="left")
        p: NDArray[np.float64] = (1 + above) / (1 + len(self.sorted))
        return p
