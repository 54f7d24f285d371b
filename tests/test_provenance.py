"""Versions and commits."""

import re
import subprocess

import pytest

from vje_pyro import provenance


def test_commit_of_a_checkout(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("old")
    assert provenance.commit_of(package) is None  # not a checkout

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True
        )

    try:
        git("init")
    except OSError:
        pytest.skip("git is not installed")
    assert provenance.commit_of(package) is None  # somebody else's checkout
    git("add", ".")
    git("commit", "-m", "first")
    assert re.fullmatch(r"[0-9a-f]{40}", str(provenance.commit_of(package)))
    (package / "__init__.py").write_text("new")
    assert re.fullmatch(r"[0-9a-f]{40}-dirty", str(provenance.commit_of(package)))


@pytest.mark.parametrize(("checkout", "commit"), [(None, "1234"), ("abcd", "abcd")])
def test_a_copy_without_its_repository_is_told_its_commit(monkeypatch, checkout, commit):
    monkeypatch.setenv("VJE_COMMIT", "1234")
    monkeypatch.setattr(provenance, "commit_of", lambda package: checkout)
    assert provenance.git_commit.__wrapped__() == commit
    monkeypatch.setenv("VJE_COMMIT", "")
    assert provenance.git_commit.__wrapped__() == checkout


def test_versions_name_what_is_computed_with(monkeypatch):
    assert {"python", "vje-pyro", "torch", "pyro-ppl"} <= provenance.versions().keys()
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package-anywhere",))
    assert provenance.versions()["no-such-package-anywhere"] is None


@pytest.mark.parametrize(
    ("started", "recorded"),
    [
        (["/v/bin/python3", "/v/bin/vje", "train", "seed=1"], ["vje", "train", "seed=1"]),
        (["/v/bin/python3", "-m", "vje_pyro.x", "a"], ["python3", "-m", "vje_pyro.x", "a"]),
    ],
)
def test_the_command_is_recorded_as_it_was_typed(monkeypatch, started, recorded):
    monkeypatch.setattr(provenance.sys, "orig_argv", started)
    assert provenance.command() == recorded
