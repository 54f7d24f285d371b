"""Containerfile, environment.yml, pyproject.toml and constraints.txt agree."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


def test_both_environments_have_a_python_that_the_project_supports():
    versions = [re.search(r"python:([\d.]+)-slim", CONTAINER)[1], CONDA[0].split("=")[1]]
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in versions)
    classified = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    assert set(versions) <= classified


def test_both_environments_install_all_extras_for_users_with_the_pinned_versions():
    users = set(EXTRAS) - {"dev", "docs"}
    installs = [
        re.search(r"/src\[(.*?)\]", CONTAINER)[1],
        re.search(r"\[(.*)\]", CONDA[2]["pip"][1])[1],
    ]
    assert [set(extras.split(",")) for extras in installs] == [users, users]
    assert "-c /src/constraints.txt" in CONTAINER
    assert CONDA[2]["pip"][0] == "-c constraints.txt"
