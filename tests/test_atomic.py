"""Files appear whole or not at all."""

import os

import pytest

from vje_pyro.atomic import leftovers, make_folder, open_to_append, replacing, write_atomic
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


def test_nothing_is_written_through_a_link_or_over_what_is_there(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".file.known.tmp").symlink_to("precious")
    with pytest.raises(WriteError, match="File exists"):
        write_atomic(tmp_path / "file", "text")
    (tmp_path / "link").symlink_to("precious")
    with pytest.raises(WriteError, match=r"Cannot write .*link"):
        open_to_append(tmp_path / "link")
    monkeypatch.undo()
    write_atomic(tmp_path / "link", "text")  # the link is replaced
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "link").read_text() == "text"


def test_names_of_partial_files_are_never_the_same(tmp_path):
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "file") as (_, partial):
            names.add(partial.name)
    assert len(names) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whatever_ends_the_block_leaves_the_old_file(tmp_path, error):
    write_atomic(tmp_path / "file", "before")
    with pytest.raises(error), replacing(tmp_path / "file"):
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"Cannot make the folder .*file"):
        make_folder(tmp_path / "file" / "folder")


def test_text_that_utf8_has_no_bytes_for_is_escaped(tmp_path):
    write_atomic(tmp_path / "file", "caf\udce9")
    assert (tmp_path / "file").read_bytes() == b"caf\\udce9"
