"""One short run on digits for all tests of this folder."""

import pytest
from commandline import TINY, run_cli


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    """A trained run; tests must not change it."""
    path = tmp_path_factory.mktemp("run") / "digits"
    assert run_cli("train", *TINY, f"run_dir={path}") == 0
    return path
