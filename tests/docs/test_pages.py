"""The pages: their links lead somewhere, their snippets run, and they are more text than table."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from commandline import TINY, run_cli
from hydra import compose, initialize_config_dir
from sklearn.datasets import load_digits

import vje_pyro
from vje_pyro.cli import app
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.configuration.choosing import with_experiment
from vje_pyro.configuration.overrides import sample_jobs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md")))
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OWN_TEST = {
    "docs/tutorials/extend_the_model.md",
    "docs/how-to/swapping.md",
    "docs/explanation/joint_posterior.md",
}
"""Pages whose code other tests run."""
LONG = {
    "docs/how-to/python.md",
    "docs/tutorials/my_folder.md",
    "docs/tutorials/fine_tune_and_export.md",
}


def anchors(text):
    """Anchors of the headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(BLOCK, "", PAGES[name])):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        page = PAGES.get(path.relative_to(ROOT).as_posix(), "")
        if not path.exists() or (anchor and anchor not in anchors(page)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", [name for name in PAGES if "/appendix/" not in name])
def test_a_page_is_more_text_than_table(name):
    lines = PAGES[name].splitlines()
    assert sum(line.lstrip().startswith("|") for line in lines) <= len(lines) / 3


# -------------------------------------------------------------------------------- commands


def commands(text):
    """Words of every ``vje`` command of a page."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    starts = re.compile(r"^\s*(?:\$ |srun |PYTHONPATH=\S+ )?vje (?=[a-z])")
    found = [line[match.end() :] for line in lines if (match := starts.match(line))]
    return [shlex.split(line, comments=True) for line in found if "…" not in line]


@pytest.mark.parametrize("name", [name for name in PAGES if commands(PAGES[name])])
def test_commands_are_understood(name):
    for words in commands(PAGES[name]):
        command, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__module__ == f"vje_pyro.experiments.{words[0].replace('-', '_')}"
        line = " ".join(words)
        if words[0] != "train" or re.search(r"resume=|--config-dir|method\._target_", line):
            continue  # what is resumed or of one's own is on pages with a test of their own
        overrides = [word for word in words if "=" in word]
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            first = sample_jobs(overrides)[0] if "-m" in words else overrides
            assert compose("train", with_experiment(first)).name


# ----------------------------------------------------------------------------------- Python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a short run in ``runs/digits``."""
    folder = tmp_path_factory.mktemp("pages")
    run = folder / "runs" / "digits"
    assert run_cli("train", *TINY, f"run_dir={run}") == 0
    return folder


def python_pages():
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name, text in PAGES.items()
        if name not in OWN_TEST and any(language == "python" for language, _ in BLOCK.findall(text))
        if ">>>" not in text
    ]


@pytest.mark.parametrize("name", python_pages())
def test_python_snippets_run(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path if name == "docs/how-to/python.md" else folder)
    torch.manual_seed(0)
    names = {"__name__": "page"}
    if name.startswith(("docs/explanation/", "docs/how-to/")):  # a run and its images are there
        names["run"] = vje_pyro.load(folder / "runs" / "digits")
        names["images"] = load_digits().images[:9] / 16
    for language, code in BLOCK.findall(PAGES[name]):
        if language == "python":
            exec(compile(code, name, "exec"), names)
        elif language == "console" and name == "docs/tutorials/my_folder.md":
            for words in commands(code):
                short = ["training.epochs=2", "loader.num_workers=0"] if "train" in words else []
                assert run_cli(*words, *short) == 0, words
