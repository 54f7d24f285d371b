"""The section on several views, from the figures of ``vje uncertainty``."""

import pytest

from vje_pyro.evaluation.result import Figure, Result
from vje_pyro.report.collect import Results
from vje_pyro.report.several_views import curve, section


def result(**figures):
    made = {
        name.replace("__", "-"): Figure(v, 0.9 * v, 1.1 * v, 50, "test")
        for name, v in figures.items()
    }
    return Result("uncertainty-v2", {"name": "toy"}, "VJE", "encoder", made, 0)


VIEWS = {f"views__{k}_variance": 1 / k for k in (1, 2, 8)}
PREDICTED = {f"views__{k}_predicted__variance": 1 / k for k in (1, 2, 8)}
ANGLE = {f"views__{k}_angle__{level}": level / 120 for k in (1, 2, 8) for level in (50, 95)}


def test_a_curve_is_sorted_by_the_number_of_views():
    numbers, ends = curve(result(**dict(reversed(VIEWS.items()))), "variance")
    assert numbers == [1, 2, 8]
    assert ends[:, 0].tolist() == [1, 0.5, 0.125]
    assert ends[:, 1] == pytest.approx(0.9 * ends[:, 0])
    assert curve(result(aurc=0.1), "variance") is None


def test_the_section_has_a_plot_of_what_was_measured():
    found = section(Results(read=[("a.json", result(**VIEWS, **PREDICTED, **ANGLE))]))
    assert [title for title, _, _ in found["panels"]] == [
        "Variance of the posterior", "Coverage of the angle",
    ]  # fmt: skip
    assert all("uncertainty-v2" in text for _, _, text in found["panels"])
    assert "from 1 to 0.125, predicted 0.125" in found["panels"][0][1]
    assert "off by at most 15.8 points" in found["panels"][1][1]


def test_without_the_figures_it_is_empty():
    assert section(Results(read=[("a.json", result(accuracy=0.5))])) == {"panels": []}
    assert section(Results(read=[("a.json", result(**VIEWS))])) == {"panels": []}
