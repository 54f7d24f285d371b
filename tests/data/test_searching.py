"""What a search of a folder finds, passes over and says of it."""

import os
from pathlib import Path

import pytest

from vje_pyro.data import list_images
from vje_pyro.data.searching import search_folder
from vje_pyro.errors import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_suffixes_of_all_that_pillow_reads(tmp_path):
    names = ["a.JFIF", "b.avif", "c.jp2", "d.jpe", "e.Tif", "f.mpo", "g.webp"]
    touch(tmp_path, *names, "x.txt", "y.db", "z.TXT", "README", ".DS_Store", "._a.jfif")
    found = search_folder(tmp_path)
    assert found.names == sorted(names)
    assert found.passed_over() == "4 files (.txt 2, .db 1, no suffix 1), 2 hidden files"


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".git", "lost+found", ".ipynb_checkpoints",
     "System Volume Information", ".thumbnails", "@EADIR", "~snapshot"],
)  # fmt: skip
def test_system_folders_are_not_searched(tmp_path, name):
    touch(tmp_path, "cat/a.png", f"{name}/b.png", f"cat/{name}/a.png/c.jpg")
    found = search_folder(tmp_path)
    assert found.names == [os.path.join("cat", "a.png")]
    assert found.passed_over() == "2 system folders"


def test_the_folder_itself_may_have_any_name(tmp_path):
    root = touch(tmp_path / ".cache" / "@eaDir", "a.png")
    assert list_images(root) == ["a.png"]


def test_each_real_folder_is_searched_once(tmp_path):
    touch(tmp_path, "zebra/a.png", "zebra/deep/b.png")
    (tmp_path / "zebra" / "up").symlink_to("..")  # a circle
    (tmp_path / "ape").symlink_to("zebra")  # another name, earlier in the alphabet
    (tmp_path / "loop").symlink_to("loop")
    found = search_folder(tmp_path)
    assert [Path(name).as_posix() for name in found.names] == ["zebra/a.png", "zebra/deep/b.png"]
    assert found.repeated == 2
    assert "2 links to folders searched already" in found.passed_over()


def test_links_to_folders_elsewhere_are_followed_once(tmp_path):
    touch(tmp_path / "store", "a.png", "more/b.png")
    root = touch(tmp_path / "root", "own.png")
    (root / "one").symlink_to(tmp_path / "store")
    (root / "two").symlink_to(tmp_path / "store" / "more")
    (root / "back").symlink_to(tmp_path)  # holds the folder that is searched
    names = [Path(name).as_posix() for name in list_images(root)]
    assert names == ["one/a.png", "one/more/b.png", "own.png"]


def test_an_unreadable_folder_is_named_and_counted(tmp_path, monkeypatch, caplog):
    touch(tmp_path, "a/x.png", "b/y.png")
    scandir = os.scandir

    def guarded(path):
        if str(path).rstrip("/").endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = search_folder(tmp_path, max_corrupt=1)
    assert found.names == [os.path.join("a", "x.png")]
    assert "1 unreadable folders" in found.passed_over()
    assert "skipped unreadable folder" in caplog.text
    with pytest.raises(DataError, match=r"1 unreadable folders in .*max_corrupt=0.*Permission"):
        search_folder(tmp_path, max_corrupt=0)
    with pytest.raises(DataError, match=r"cannot read the folder .*Permission denied"):
        search_folder(tmp_path / "b")


def test_nothing_to_find(tmp_path):
    touch(tmp_path, "notes.txt", "@eaDir/a.png")
    with pytest.raises(DataError, match=r"passed over: 1 files \(.txt 1\), 1 system folders"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "notes.txt")


def test_names_are_bytes(tmp_path):
    folder, name = os.fsdecode(b"\xe9t\xe9"), os.fsdecode(b"caf\xe9.png")
    found = search_folder(touch(tmp_path, f"{folder}/{name}", os.fsdecode(b"x.\xe9")))
    assert os.fsencode(found.names[0]) == b"\xe9t\xe9/caf\xe9.png"
    assert found.passed_over() == "1 files (.\\xe9 1)"
