"""Tar shards: packing, the index, random access, and what is refused."""

import dataclasses
import functools
import http.server
import io
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tars import picture, write_tar

from vje_pyro.data import ImageFolder, ShardFiles, ShardIndex, WebDataset, index_shards, pack_folder
from vje_pyro.data.__main__ import main
from vje_pyro.data.files import CorruptImage
from vje_pyro.data.shards import is_remote
from vje_pyro.errors import DataError

pytest.importorskip("webdataset")


def source(root, pretrain="train-*.tar", **options):
    return WebDataset(str(root), pretrain, **({"image_size": 8} | options))


def indexed(root, **options):
    index_shards(root, **options).save(root / "index.npz")
    return root


def values(split):
    """The grey value of every image."""
    return [int(split.tensor(i).float().mean().round()) for i in range(len(split))]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_index_knows_every_image(shards):
    root = shards([3, 0, 5])
    index = index_shards(root)
    assert index.shards == ("train-000.tar", "train-001.tar", "train-002.tar")
    assert index.starts.tolist() == [0, 3, 3, 8]
    assert index.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert index.bytes.tolist() == [(root / name).stat().st_size for name in index.shards]
    content = (root / "train-002.tar").read_bytes()
    for sample in range(3, 8):
        here = content[index.offsets[sample] :][: index.sizes[sample]]
        assert here == picture(sample)


def test_index_is_read_as_it_was_written(shards, tmp_path):
    index = index_shards(shards([2, 2], label="json"))
    index.save(tmp_path / "i.npz")
    again = ShardIndex.read(str(tmp_path / "i.npz"), index.root)
    assert (again.shards, again.classes) == (index.shards, ("ant", "cat"))
    for name in ("starts", "bytes", "offsets", "sizes", "labels"):
        assert np.array_equal(getattr(again, name), getattr(index, name))


def test_labels_by_name_by_number_and_none(shards, tmp_path):
    assert index_shards(shards([4], label="json")).labels.tolist() == [0, 1, 0, 1]
    assert index_shards(shards([4], label=None)).labels.tolist() == [-1] * 4
    (tmp_path / "classes.txt").write_text("cat\ndog\nant\n")
    index = index_shards(shards([4], label="json"))
    assert index.labels.tolist() == [2, 0, 2, 0]
    assert index.classes == ("cat", "dog", "ant")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"found \['ant'\] beside \['cat'\]"):
        index_shards(tmp_path)
    with pytest.raises(DataError, match=r"a label is 2, but classes.txt has only 1 classes"):
        index_shards(shards([4]))


def test_patterns_choose_shards(shards):
    index = index_shards(shards([2, 3, 4]))
    assert index.select("train-{000..001}.tar").tolist() == [0, 1, 2, 3, 4]
    assert index.select("train-002.tar::train-000.tar").tolist() == [0, 1, 5, 6, 7, 8]
    assert index.select("train-*.tar").tolist() == list(range(9))
    with pytest.raises(
        DataError, match=r"names val-\*.tar, but .*has train-000.tar, train-001.tar"
    ):
        index.select("val-*.tar")
    with pytest.raises(DataError, match=r"names train-003.tar, .*-005.tar and 4 more"):
        index.select("train-{000..009}.tar")


def test_an_index_leads_to_urls_only_by_a_pattern_that_is_one(shards):
    index = index_shards(shards([2, 3, 4]))
    urls = ("https://host/train-000.tar", "pipe:touch pwned", index.shards[2])
    index = dataclasses.replace(index, shards=urls)
    assert index.select("*").tolist() == index.select(urls[2]).tolist()
    assert len(index.select("https://host/train-*.tar")) == index.starts[1]
    with pytest.raises(DataError, match="no such shard"):
        index.select("*touch*")


@pytest.mark.parametrize(
    ("location", "remote"),
    [
        ("https://host/a", True), ("pipe:cat a", True), ("hf://a", True),
        ("a.tar::b.tar", False), ("pipe:: ; touch pwned", False), ("C:/data", False),
    ],
)  # fmt: skip
def test_what_is_a_url(location, remote):
    assert is_remote(location) is remote


def test_a_split_is_used_as_files_are(shards):
    split = source(indexed(shards([4, 5]))).split("train")
    assert isinstance(split, ShardFiles)
    assert values(split) == list(range(9))
    assert values(split.subset([7, 2, 2])) == [7, 2, 2]
    assert split.labels.tolist() == [i % 3 for i in range(9)]
    assert split.names[5] == "train-001.tar#1"
    image, label = split[4]
    assert image.shape == (3, 8, 8)
    assert label == 1
    assert torch.equal(split.load().images[4], image)
    assert split.digest() == source(split.root).split("train").digest()
    assert split.digest() != split.subset([1]).digest()


def test_images_of_any_mode_are_decoded(tmp_path):
    members = []
    for mode, suffix in (
        ("L", "png"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
        ("P", "gif"),
        ("1", "bmp"),
    ):
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG"}.get(suffix, suffix.upper())
        Image.new(mode, (9, 7)).save(buffer, kind)
        members.append((f"{mode}.{suffix.upper()}", buffer.getvalue()))
    write_tar(tmp_path / "train-0.tar", members)
    split = source(indexed(tmp_path)).split("train")
    assert split.load().images.shape == (5, 3, 8, 8)
    assert source(tmp_path, channels=1).split("train").load().images.shape == (5, 1, 8, 8)


def test_limits_are_balanced_and_in_stored_order(shards):
    one = source(indexed(shards([10, 20])), train_limit=9)
    split = one.split("train")
    assert split.labels.bincount().tolist() == [3, 3, 3]
    assert split.samples.tolist() == sorted(split.samples.tolist())
    assert one.positions("train").tolist() == split.samples.tolist()
    rest = one.split("validation").samples.tolist()
    assert sorted(split.samples.tolist() + rest) == list(range(30))


def test_a_few_images_are_drawn_from_few_shards(shards):
    split = source(indexed(shards([3] * 40))).split("train")
    few = split.draw(20, seed=0)
    assert len(set(few.samples.tolist())) == 20
    assert len(set(few.index.shard_of[few.samples].tolist())) <= 16
    assert split.draw(20, seed=1).samples.tolist() != few.samples.tolist()
    assert len(split.draw(1000, seed=0)) == 120


def test_a_folder_is_packed_and_keeps_its_numbering(tmp_path):
    for name, count in (("train/ant", 5), ("train/bee", 6), ("test/bee", 3)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / name / f"{i}.odd.name.jpg").write_bytes(picture(10 * i, "jpg"))
    root = tmp_path / "shards"
    main(["pack", str(tmp_path / "train"), str(root), "--per-shard", "4"])
    pack_folder(tmp_path / "test", root, "test")
    assert sorted(p.name for p in root.glob("*.tar")) == [
        "test-000000.tar", "train-000000.tar", "train-000001.tar", "train-000002.tar",
    ]  # fmt: skip
    one = source(root, test="test-000000.tar")
    train, folder = one.split("train"), ImageFolder(str(tmp_path / "train")).split("train")
    assert (one.num_classes, train.classes) == (2, ("ant", "bee"))
    assert one.split("test").labels.tolist() == [1, 1, 1]
    assert train.labels.tolist() != folder.labels.tolist()  # mixed
    packed = sorted((train.content(i), int(train.labels[i])) for i in range(11))
    files = [(Path(folder.location(i)).read_bytes(), int(folder.labels[i])) for i in range(11)]
    assert packed == sorted(files)
    with pytest.raises(DataError, match=r"has shards train-\*.tar already"):
        pack_folder(tmp_path / "train", root)
    (tmp_path / "new/wasp").mkdir(parents=True)
    (tmp_path / "new/wasp/1.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=r"has the classes \['wasp'\]"):
        pack_folder(tmp_path / "new", root, "new")


def test_what_cannot_be_read_is_not_packed(tmp_path, caplog):
    folder = tmp_path / "ant"
    folder.mkdir()
    (folder / "a.JFIF").write_bytes(picture(10, "jpg"))
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / os.fsdecode(b"caf\xe9") / "b.png").write_bytes(picture(20))
    index = pack_folder(tmp_path, tmp_path / "shards")
    assert (len(index), index.classes) == (2, ("ant", "caf\\xe9"))
    assert caplog.text.count("skipped corrupt image") == 2


def test_command_line_says_what_is_wrong(tmp_path, shards, capsys):
    shards([2])
    main(["index", str(tmp_path)])
    assert "2 images in 1 shards" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: no shard"):
        main(["index", str(tmp_path), "--shards", "val-*.tar"])
    with pytest.raises(SystemExit, match="set --out FILE"):
        main(["index", "https://nowhere.invalid"])


@pytest.mark.parametrize("spoil", ["image", "end"])
def test_index_refuses_a_truncated_shard(shards, spoil):
    root = shards([3])
    size = index_shards(root).offsets[2] + 5 if spoil == "image" else 512 * 12
    cut(root / "train-000.tar", size)
    with pytest.raises(DataError, match=r"truncated shard .*train-000.tar.*number \d, '00000\d'"):
        index_shards(root)


def test_index_refuses_what_is_no_shard(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(DataError, match="not a plain tar file"):
        index_shards(tmp_path)
    with pytest.raises(DataError, match=r"missing shard .*b\.tar"):
        index_shards(tmp_path, "b.tar")
    write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("2.cls", b"1")])
    with pytest.raises(DataError, match=r"the sample '2' has no image"):
        index_shards(tmp_path)
    write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("1.json", b"{")])
    with pytest.raises(DataError, match=r"1\.json: not a label"):
        index_shards(tmp_path)


def test_missing_shard_index_and_split(shards):
    root = shards([2, 2])
    with pytest.raises(DataError, match=r"index.npz is not there.*python -m vje_pyro.data index"):
        source(root).split("train")
    indexed(root)
    with pytest.raises(DataError, match="has no split 'test'; choose from pretrain, train"):
        source(root).split("test")
    (root / "train-001.tar").unlink()
    with pytest.raises(DataError, match=r"missing shard .*train-001.tar"):
        source(root).split("train")
    assert len(source(root, "train-000.tar").split("train")) == 2
    (root / "index.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="not a readable index"):
        source(root).split("train")


def test_truncated_shard_counts_as_damaged_images(shards):
    root = indexed(shards([6]))
    index = source(root).index
    cut(root / "train-000.tar", int(index.offsets[4]) + 3)
    message = (
        r"2 corrupt images.*max_corrupt=1: train-000.tar#4 \(truncated shard .*last whole .*#3"
    )
    with pytest.raises(DataError, match=message):
        source(root, max_corrupt=1).split("train")
    split = source(root, max_corrupt=2).split("train")
    with pytest.raises(CorruptImage, match=r"last whole image is train-000.tar#3"):
        split.image(5)
    assert len(split.load()) == 4


def test_index_of_other_shards(shards):
    root = indexed(shards([6]))
    write_tar(root / "train-000.tar", [("0.bin", b"0" * 9999), ("1.png", picture(1))])
    with pytest.raises(DataError, match="not the shard that the index was made of"):
        source(root).split("train").image(1)


def test_bad_arguments(tmp_path):
    for options in ({"channels": 2}, {"streams": 0}, {"shuffle_buffer": -1}, {"crop_fraction": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            source(tmp_path, **options)


def test_missing_library(monkeypatch, shards):
    root = indexed(shards([2]))
    monkeypatch.setitem(sys.modules, "webdataset", None)
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(DataError, match=r"pip install 'vje-pyro\[webdataset\]'"):
        source(root, "train-{000..000}.tar").split("train")


def test_a_command_is_run_only_where_that_is_permitted(shards, monkeypatch):
    root = shards([3])
    url = f"pipe:cat {root}/train-000.tar"
    monkeypatch.delenv("VJE_ALLOW_PIPE", raising=False)
    with pytest.raises(DataError, match=r"runs a shell command.*VJE_ALLOW_PIPE=1"):
        index_shards("", url)
    monkeypatch.setenv("VJE_ALLOW_PIPE", "1")
    index_shards("", url).save(root / "index.npz")
    split = source("", "pipe:*", index=str(root / "index.npz")).split("train")
    assert values(split) == [0, 1, 2]
    assert values(split.subset([2, 0])) == [2, 0]
    (root / "train-000.tar").unlink()
    with pytest.raises(DataError, match=r"nothing came .*status 1"):
        source("", "pipe:*", index=str(root / "index.npz")).split("train").image(0)


@pytest.fixture
def served(tmp_path):
    """A folder and its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="URLs are read with curl")
def test_shards_behind_a_url(served, shards, monkeypatch):
    root, url = served
    shards([4, 5])
    main(["index", url, "--shards", "train-{000..001}.tar", "--out", str(root / "index.npz")])
    split = source(url, "train-{000..001}.tar").split("train")
    assert values(split) == list(range(9))
    assert split.digest() == source(root).split("train").digest()
    index = source(url).index
    cut(root / "train-001.tar", int(index.offsets[8]) + 3)
    with pytest.raises(CorruptImage, match=r"truncated shard .*train-001.tar.* image is .*#3"):
        source(url).split("train").image(8)
    (root / "train-000.tar").unlink()
    with pytest.raises(DataError, match=r"train-000.tar: nothing came .*missing file"):
        source(url).split("train").image(0)
    with pytest.raises(DataError, match="a URL has no wildcards"):
        index_shards(url, "train-*.tar")


def test_a_stream_that_breaks_off_is_fetched_anew(shards, monkeypatch, tmp_path):
    """The program fails in its first run, after half of the shard."""
    root = indexed(shards([6]))
    shard, mark = root / "train-000.tar", tmp_path / "second"
    half = shard.stat().st_size // 2
    first = f"touch {mark}; head -c {half} {shard}; exit 18"
    once = f"if [ -e {mark} ]; then cat {shard}; else {first}; fi"
    index = index_shards(root)
    monkeypatch.setenv("VJE_ALLOW_PIPE", "1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    broken = ShardIndex("", (f"pipe:{once}",), *(getattr(index, n) for n in (
        "starts", "bytes", "offsets", "sizes", "labels")))  # fmt: skip
    split = ShardFiles(broken, np.arange(6), image_size=8)
    assert values(split) == list(range(6))
    assert mark.exists()
