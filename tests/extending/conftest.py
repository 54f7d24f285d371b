"""The examples of the page: a section's code, after that of the model which all extend."""

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pyro
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "extend_the_model.md"
BASE = "The model to extend"


@cache
def sections():
    """The Python code of each section, in the order of the page."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    titles, texts = parts[::2], parts[1::2]
    code = ["\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)) for text in texts]
    return dict(zip(titles, code, strict=True))


@pytest.fixture(scope="module")
def example():
    """Runs a section and gives all names that it leaves."""

    @cache
    def run(title):
        pyro.clear_param_store()
        torch.manual_seed(0)
        names = {"__name__": "extending"}
        for section in (BASE, title):
            exec(compile(sections()[section], f"{PAGE.name}: {section}", "exec"), names)
        return SimpleNamespace(**names)

    return run


@pytest.fixture
def page_text():
    """The page."""
    return PAGE.read_text(encoding="utf-8")
