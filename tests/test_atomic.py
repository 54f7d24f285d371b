"""Files appear whole or not at all."""

import os

import pytest

from vje_pyro.atomic import leftovers, write_atomic
from vje_pyro.errors import CheckpointError, WriteError


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomic(path, "before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(WriteError, match=r"write .*file \(4 bytes\): No space left.*untouched"):
        write_atomic(path, b"more")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        write_atomic(tmp_path / "nowhere" / "file", "text")


def test_leftovers_of_a_killed_process_are_found(tmp_path):
    (tmp_path / ".file.1.tmp").write_text("half")
    write_atomic(tmp_path / "file", "whole")
    assert [p.name for p in leftovers(tmp_path)] == [".file.1.tmp"]
