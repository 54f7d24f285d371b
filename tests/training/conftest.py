"""Fixtures of the training room's tests."""

import importlib.util
import sys
from pathlib import Path

import pytest

collect_ignore = ["processes.py", "toy.py"]  # no doctests in there


@pytest.fixture(scope="session")
def toy():
    """The module ``toy.py`` beside this file."""
    path = Path(__file__).with_name("toy.py")
    spec = importlib.util.spec_from_file_location("training_toy", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_toy"] = module
    spec.loader.exec_module(module)
    return module
