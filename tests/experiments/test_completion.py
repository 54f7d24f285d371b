"""Completion of ``vje`` in a shell."""

import shutil
import subprocess

import pytest

from vje_pyro.cli import app

NAMES = {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_the_script(shell):
    script = app.generate_completion(prog_name="vje", shell=shell)
    assert len(NAMES) > 15
    assert {name for name in NAMES if name not in script} == set()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["evalu"], ["evaluate"]),
        (["evaluate", "--prot"], ["--protocols"]),
        (["evaluate", "--protocols", "k"], ["knn-v1"]),
        (["shards", "p"], ["pack"]),
        ([""], sorted(NAMES)),
    ],
)
def test_bash_completes(words, found):
    asked = (
        f"{app.generate_completion(prog_name='vje', shell='bash')}\n"
        'COMP_WORDS=(vje "$@"); COMP_CWORD=$#; _vje; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asked, "bash", *words], capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == found
