import pytest

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result, t_interval
from vje_pyro.evaluation.seeds import check_comparable, over_seeds


def result(seed, *, digest="ab", k=20):
    figure = Figure(0.5 + seed / 10, 0.4, 0.6, 100, "95% bootstrap over test images")
    return Result("knn-v1", {"digest": digest}, "VJE", "encoder", {"accuracy": figure}, seed,
                  settings={"k": k})  # fmt: skip


def test_the_mean_over_seeds_has_its_t_interval():
    figures = [result(seed).figures["accuracy"] for seed in range(3)]
    assert over_seeds(figures) == t_interval([0.5, 0.6, 0.7], over="seeds")


def test_a_single_seed_keeps_the_interval_of_its_file():
    figure = result(0).figures["accuracy"]
    assert over_seeds([figure]) == figure


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([result(0)], r"seeds \[0, 0\] repeat"),
        ([result(1, digest="cd")], "differ in dataset"),
        ([result(1, k=5)], "seeds 0 and 1 differ in settings"),
    ],
)
def test_what_is_no_repetition_is_refused(others, message):
    with pytest.raises(VJEError, match=f"^here: .*{message}"):
        check_comparable("here", [result(0), *others])
    assert check_comparable("here", [result(0), result(1)]) is None
