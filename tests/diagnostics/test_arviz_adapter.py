import sys
from importlib import metadata

import numpy as np
import pytest

from vje_pyro.diagnostics import arviz_adapter as adapter
from vje_pyro.errors import VJEError


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    groups = {
        "posterior": {"z": (("chain", "draw", "datum"), rng.normal(size=(1, 50, 3)))},
        "observed_data": {"r": (("datum",), np.arange(3.0))},
    }
    return adapter.build(groups, {"datum": ["a", "b", "c"]}, {"name": "toy", "seed": 3})


def test_groups_and_attributes_come_back(data):
    assert set(adapter.group_names(data)) == {"posterior", "observed_data"}
    assert adapter.read_group(data, "posterior")["z"].shape == (1, 50, 3)
    assert adapter.read_group(data, "observed_data").keys() == {"r"}
    assert adapter.read_attributes(data) == {"name": "toy", "seed": 3}
    assert data["posterior"]["z"].dims == ("chain", "draw", "datum")
    assert list(data["posterior"]["datum"].values) == ["a", "b", "c"]
    with pytest.raises(KeyError):
        adapter.read_group(data, "prior")


def test_dimensions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"."):
        adapter.build({"g": {"x": (("datum",), np.zeros(3))}}, {"datum": [0, 1]})


def test_pareto_k_is_that_of_the_tail():
    # Weights u^-k of uniform u are Pareto of shape k.
    u = np.random.default_rng(0).uniform(size=(3, 4000))
    log_weights = -np.array([[0.2], [0.6], [1.2]]) * np.log(u)
    smoothed, k = adapter.psislw(log_weights)
    np.testing.assert_allclose(k, [0.2, 0.6, 1.2], atol=0.15)
    np.testing.assert_allclose(np.exp(smoothed).sum(-1), 1.0, rtol=1e-6)
    assert (np.argmax(smoothed, -1) == np.argmax(log_weights, -1)).all()


def test_comparison_is_the_arithmetic_of_differences():
    rng = np.random.default_rng(0)
    good = 1000 + rng.normal(size=200)  # exp(1000) overflows
    bad = good - 0.5 + 0.1 * rng.normal(size=200)
    table = adapter.compare({"bad": bad, "good": good})
    assert list(table) == ["good", "bad"]
    assert [row["rank"] for row in table.values()] == [0, 1]
    assert table["good"]["elpd_diff"] == 0
    np.testing.assert_allclose(table["bad"]["elpd_diff"], (bad - good).sum(), rtol=1e-9)
    np.testing.assert_allclose(table["bad"]["dse"], (bad - good).std() * 200**0.5, rtol=1e-9)
    assert table["good"]["weight"] > 0.95


def test_an_old_arviz_is_refused(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _: "0.22.0")
    with pytest.raises(VJEError, match=r"ArviZ 0\.22\.0 is too old.*pip install 'arviz>=0\.23'"):
        adapter.build({}, {})


def test_an_absent_arviz_is_named(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(VJEError, match=r"not installed.*pip install 'arviz>=0\.23'"):
        adapter.arviz()


def test_the_announcement_of_the_next_version_is_not_passed_on(monkeypatch):

    import warnings

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "arviz":
                warnings.warn("ArviZ changes", FutureWarning, stacklevel=2)
            return None

    monkeypatch.delitem(sys.modules, "arviz", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with warnings.catch_warnings(record=True) as passed_on:
        warnings.simplefilter("always")
        assert adapter.arviz().__name__ == "arviz"
    assert not [w for w in passed_on if "ArviZ changes" in str(w.message)]
