"""Every key of a configuration says what it means."""

import pytest

from vje_pyro.configuration.explaining import explained_keys


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=digits"],
        ["data=folder", "data.root=x", "method=vssl", "prior=mixture", "optimizer=lars"],
        ["data=webdataset", "data.root=x", "data.pretrain=y", "guide=low_rank_normal"],
        ["experiment=digits", "logger=[tensorboard,wandb,mlflow]"],
    ],
)
def test_every_key_has_its_value_and_a_meaning(words):
    lines = explained_keys(words)
    assert len(lines) > 70
    assert [line for line in lines if "  # " not in line and not line.startswith("prior.")] == []


def test_a_comment_of_the_file_comes_before_the_docstring():
    (line,) = [x for x in explained_keys(["seed=3"]) if x.startswith("seed=")]
    assert (
        line == f"{'seed=3':48}  # random seed of weights, order of the images, views and samples"
    )
