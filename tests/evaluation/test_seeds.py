import pytest

from vje_pyro.errors import VJEError
from vje_pyro.evaluation import Figure, Result
from vje_pyro.evaluation.seeds import check_comparable


def result(seed, *, digest="ab", k=20):
    figure = Figure(0.5 + seed / 10, 0.4, 0.6, 100, "95% bootstrap over test images")
    return Result("knn-v1", {"digest": digest}, "VJE", "encoder", {"accuracy": figure}, seed,
                  settings={"k": k})  # fmt: skip


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
