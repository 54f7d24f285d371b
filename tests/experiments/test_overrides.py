"""Words of the command line: paths are taken as they are, all else is Hydra's or has its quotes."""

import os
import re
import shlex

import pytest
from commandline import run_cli
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from vje_pyro.configuration.overrides import PATHS, expanded, parsed, readable, sample_jobs
from vje_pyro.errors import VJEError

AWKWARD = [
    "~/x", "~", "a~b", "数据", "naïve", "a,b", "a, b", "my photos", " x ", "it's", 'say "x"', "x=y",
    "photos (1)", "my(1)", "choice(a,b)", "imgs[1]", "[photos]", "[a,b]", "{a}", "{a:1}", "2024",
    "1e3", "true", "-x", "a:b", "a: b", "a#b", "a&b", "a;b", "a|b", "<x>", "a\\b", "a\\", "a\\'",
    "C:\\x", "$HOME", "%d", "*", "glob(*)", "@eaDir", "http://x/y?z=1&w", "'a'b'", "null/x", "…",
]  # fmt: skip


def value(word):
    return OverridesParser.create().parse_override(word).value()


@pytest.fixture(autouse=True)
def _home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize("path", AWKWARD)
def test_a_path_is_taken_as_it_is(path):
    (word,) = readable([f"data.root={path}"])
    assert value(word) == os.path.expanduser(path)


def test_quotes_around_a_whole_path_are_the_grammar_s():
    words = [
        'data.root="~/x"',
        "run_dir='数 据'",
        "++init_from=null",
        "data.root=",
        "data.root=???",
    ]
    values = [value(word) for word in readable(words)]
    assert values == ["/home/me/x", "数 据", None, "", "???"]


def test_a_path_may_refer_to_other_keys():
    assert value(readable(["run_dir=runs/${name}/a b"])[0]) == "runs/${name}/a b"


def test_in_a_sweep_commas_separate_paths():
    (word,) = readable(["-m", "data.root=~/a,2024,photos (1)"])[1:]
    sweep = OverridesParser.create().parse_override(word)
    assert [job[0] for job in sample_jobs([word])] == [
        "data.root='/home/me/a'", "data.root='2024'", "data.root='photos (1)'",
    ]  # fmt: skip
    assert sweep.is_sweep_override()
    assert sample_jobs(["seed=0", "encoder=glob(*)"]) == [["seed=0"]]
    quoted = ["--multirun", "data.root='a,b','c'"]
    assert readable(quoted) == quoted


@pytest.mark.parametrize("text", ["数据", "it's", "a,b", "x=y", "my(1)", "[a", "{a", "a#b", 'a"b'])
def test_what_cannot_be_read_is_refused_with_quotes_that_work(text):
    with pytest.raises(VJEError, match=re.escape(f"name={text} ")) as refused:
        readable([f"name={text}"])
    advice = re.search(r"quote a text as (.*?)(; write a list|$)", str(refused.value))[1]
    assert value(*shlex.split(advice)) == text


def test_a_choice_without_a_sweep_names_both_ways():
    with pytest.raises(VJEError, match=r"needs -m.*'seed=\[1,2\]'"):
        readable(["seed=1,2"])
    assert readable(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]


@pytest.mark.parametrize("word", ["foo", "数=1", "a b"])
def test_no_override_at_all(word):
    with pytest.raises(VJEError, match="overrides are written key=value"):
        readable([word])


@pytest.mark.parametrize(
    "words",
    [
        ["encoder.widths=[16,32]", "+x.y=1", "~trust", "likelihood/radius=none", "seed=-1"],
        ["--cfg", "job"],
        ["--config-dir", "a b (1)", "seed=0"],
    ],
)
def test_everything_else_stays_what_it_is(words):
    assert readable(words) == words


def test_the_words_alone_as_a_configuration():
    config = parsed(
        ["device.devices=2", "data.root=2024", "trust=[a,b]", "training.progress=false"]
    )
    assert config == {
        "device": {"devices": 2},
        "data": {"root": "2024"},
        "trust": ["a", "b"],
        "training": {"progress": False},
    }


def test_home_is_found_in_files_and_variables_too(monkeypatch):
    monkeypatch.setenv("FOLDER", "~/data")
    config = {"data": {"root": "${oc.env:FOLDER}/x"}, "init_from": None, "run_dir": "~/r"}
    found = {"data": {"root": "/home/me/data/x"}, "init_from": None, "run_dir": "/home/me/r"}
    assert expanded(OmegaConf.create(config)) == found
    assert "data.root" in PATHS


@pytest.mark.parametrize(
    ("option", "said"), [("--hydra-help", "hydra_help"), ("--cfg=job", "seed: 0")]
)
def test_hydra_s_own_options_work(option, said, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run_cli("train", *option.split("=")) == 0
    assert said in capfd.readouterr().out
