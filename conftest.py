"""The README's examples run in a folder of their own."""

import pytest


@pytest.fixture(autouse=True)
def _in_a_folder(request):
    if request.node.name == "README.md":
        import pyro

        pyro.clear_param_store()
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
