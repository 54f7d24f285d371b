"""What the README's examples need: a trained run in the folder that they are read in."""

import os

import pytest


@pytest.fixture(scope="session")
def readme_folder(tmp_path_factory):
    """A folder with a short run in ``runs/digits``."""
    from commandline import run_cli

    folder = tmp_path_factory.mktemp("readme")
    run = folder / "runs" / "digits"
    assert run_cli("train", "experiment=digits", "training.epochs=4", f"run_dir={run}") == 0
    return folder


@pytest.fixture(autouse=True)
def _in_the_readme_folder(request):
    if request.node.name != "README.md":
        yield
        return
    import pyro

    pyro.clear_param_store()
    before = os.getcwd()
    os.chdir(request.getfixturevalue("readme_folder"))
    yield
    os.chdir(before)
