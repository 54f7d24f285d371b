"""Spread between methods and between seeds, against numbers made by hand."""

import numpy as np
import pytest

from studies.spread import spreads


def test_spreads_by_hand():
    methods, seeds = spreads([[1.0, 3.0], [10.0, 10.0, 13.0]])
    assert methods == pytest.approx(9 / np.sqrt(2))  # means 2 and 11
    assert seeds == pytest.approx(np.sqrt((2 + 6) / 3))  # squares 2 and 6, freedom 1 and 2
