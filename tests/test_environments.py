"""Containerfile, environment.yml, pyproject.toml, constraints.txt, Makefile and pages agree."""

import re
import tomllib
from itertools import chain, pairwise
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from vje_pyro import __version__

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
CONTAINER = (ROOT / "Containerfile").read_text()
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    wanted = [Requirement(r) for r in (*PROJECT["dependencies"], *chain(*EXTRAS.values()))]
    wanted = [r for r in wanted if r.name != PROJECT["name"]]
    found = pins() | {"setuptools": "99", "wheel": "99"}  # they build; any recent one does
    assert {r.name for r in wanted if canonicalize_name(r.name) not in found} == set()
    assert [str(r) for r in wanted if found[canonicalize_name(r.name)] not in r.specifier] == []


def versions_that_run():
    """The versions in the table of docs/reference/versions.md that tests were run with."""
    page = (ROOT / "docs" / "reference" / "versions.md").read_text()
    rows = re.findall(r"^\| (3\.\d+) \| (.+?) \|", page, re.MULTILINE)
    return [version for version, runs in rows if runs != "nothing"]


def test_all_name_the_same_versions_of_python():
    oldest, *_ = versions = versions_that_run()
    assert [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if "Python :: 3." in c] == versions
    assert PROJECT["requires-python"] == f">={oldest}"
    assert TOOLS["mypy"]["python_version"] == oldest
    assert TOOLS["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    make = (ROOT / "Makefile").read_text()
    assert set(re.findall(r"\bpython(3\.\d+)", make)) == set(versions)
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in make
    said = (make, *((ROOT / p).read_text() for p in (".ci/run", "README.md", "docs/index.md")))
    assert [f"Python {oldest} or newer" in text for text in said] == [True] * 4
    both = {re.search(r"python:([\d.]+)-slim", CONTAINER)[1], CONDA[0].split("=")[1]}
    assert both <= set(versions)


def test_the_version_of_the_package_is_in_one_place():
    assert "version" in PROJECT["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    log = re.findall(
        r"^## \[(.+?)\](?: - (.+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert log[0] == ("Unreleased", "")
    assert all(Version(a) > Version(b) for (a, _), (b, _) in pairwise(log[1:]))
    assert len(log) == 1 or log[1][0] == __version__


def test_both_environments_install_all_extras_for_users_with_the_pinned_versions():
    users = set(EXTRAS) - {"dev", "docs"}
    installs = [
        re.search(r"/src\[(.*?)\]", CONTAINER)[1],
        re.search(r"\[(.*)\]", CONDA[2]["pip"][1])[1],
    ]
    assert [set(extras.split(",")) for extras in installs] == [users, users]
    assert "-c /src/constraints.txt" in CONTAINER
    assert CONDA[2]["pip"][0] == "-c constraints.txt"
