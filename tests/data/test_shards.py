"""Tar shards: packing, the index, what is read of them from where, and what is refused."""

import functools
import hashlib
import http.server
import io
import os
import sys
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from commandline import run_cli
from shard_files import picture, write_shards, write_tar

from vje_pyro.data import (
    ImageFolder,
    ShardFiles,
    ShardIndex,
    WebDataset,
    batches,
    index_shards,
    pack_folder,
)
from vje_pyro.data.decoding import CorruptImage
from vje_pyro.errors import DataError

pytest.importorskip("braceexpand", reason="it is of the extra shards")


def indexed(root, **options):
    index_shards(root, **options).save(root / "index.npz")
    return root


def source(root, pretrain="train-*.tar", **options):
    return WebDataset(str(root), pretrain, **({"image_size": 8} | options))


def values(split):
    """The grey value of every image."""
    return [int(split.tensor(i).float().mean().round()) for i in range(len(split))]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


# ------------------------------------------------------------------------------------- the index


def test_index_knows_every_image(tmp_path):
    index = index_shards(write_shards(tmp_path, [3, 0, 5]))
    assert index.shards.tolist() == ["train-000.tar", "train-001.tar", "train-002.tar"]
    assert index.starts.tolist() == [0, 3, 3, 8]
    assert index.bytes.tolist() == [(tmp_path / name).stat().st_size for name in index.shards]
    content = (tmp_path / "train-002.tar").read_bytes()
    for sample in range(3, 8):
        here = content[index.offsets[sample] :][: index.sizes[sample]]
        assert here == picture(sample)
    index.save(tmp_path / "i.npz")
    again = ShardIndex.read(str(tmp_path / "i.npz"))
    assert all(np.array_equal(a, b) for a, b in zip(index, again, strict=True))


@pytest.mark.parametrize(
    ("label", "names", "labels", "classes"),
    [
        ("cls", None, [0, 1, 2, 0], []),
        ("json", None, [0, 1, 0, 1], ["ant", "cat"]),
        (None, None, [-1] * 4, []),
        ("json", "cat\ndog\nant\n", [2, 0, 2, 0], ["cat", "dog", "ant"]),
        ("json", "cat\n", r"found \['ant'\] beside \['cat'\]", None),
        ("cls", "cat\n", r"a label is 2, but classes.txt has only 1 classes", None),
    ],
)
def test_labels(tmp_path, label, names, labels, classes):
    """Numbers, names, none; ``classes.txt`` numbers the names."""
    write_shards(tmp_path, [4], label=label)
    if names is not None:
        (tmp_path / "classes.txt").write_text(names)
    if classes is None:
        with pytest.raises(DataError, match=labels):
            index_shards(tmp_path)
    else:
        index = index_shards(tmp_path)
        assert (index.labels.tolist(), index.classes.tolist()) == (labels, classes)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("train-{000..001}.tar", [0, 1, 2, 3, 4]),
        ("train-002.tar::train-000.tar", [0, 1, 5, 6, 7, 8]),
        ("train-*.tar", list(range(9))),
        ("train-[0]00.tar", [0, 1]),
        ("val-*.tar", r"names val-\*.tar, but .* has train-000.tar, train-001.tar"),
        ("train-{000..009}.tar", r"names train-003.tar, .*-005.tar and 4 more"),
        ("../secret.tar", "the index has no such shard"),
    ],
)
def test_patterns_choose_shards(tmp_path, pattern, chosen):
    index = index_shards(write_shards(tmp_path, [2, 3, 4]))
    if isinstance(chosen, str):
        with pytest.raises(DataError, match=chosen):
            index.select(pattern)
    else:
        assert index.select(pattern).tolist() == chosen


IMAGE = ("1.png", picture(1))


@pytest.mark.parametrize(
    ("shard", "pattern", "message"),
    [
        (b"no tar" * 1000, "*.tar", "not a plain tar file"),
        ([IMAGE], "b.tar", r"missing shard .*b\.tar"),
        ([IMAGE], "b*.tar", r"no shard .*b\*\.tar"),
        ([IMAGE, ("2.cls", b"1")], "*.tar", r"the sample '2' has no image"),
        ([IMAGE, ("1.json", b"{")], "*.tar", r"1\.json: not a label"),
        ([IMAGE, ("1.cls", b"\xff")], "*.tar", r"1\.cls: not a label"),
        ([IMAGE, ("1.cls", b"0"), ("2.png", b"x"), ("2.cls", b"ant")], "*.tar", "beside"),
        ("image", "*.tar", r"truncated shard .*a\.tar.*number 0"),
        ("end", "*.tar", r"truncated shard .*a\.tar.*no end mark; its last complete .* number 1"),
    ],
)
def test_index_refuses(tmp_path, shard, pattern, message):
    path = tmp_path / "a.tar"
    if isinstance(shard, bytes):
        path.write_bytes(shard)
    else:
        write_tar(path, [IMAGE, ("2.png", picture(2))] if isinstance(shard, str) else shard)
    if isinstance(shard, str):
        index = index_shards(tmp_path)
        end = int(index.offsets[1])
        cut(path, end + 5 if shard == "image" else end + 512 * -(-int(index.sizes[1]) // 512))
    with pytest.raises(DataError, match=message):
        index_shards(tmp_path, pattern)


# ------------------------------------------------------------------------------------- the images


def test_a_split_is_used_as_files_are(tmp_path):
    split = source(indexed(write_shards(tmp_path, [4, 5]))).split("train")
    assert isinstance(split, ShardFiles)
    assert values(split) == list(range(9))
    assert values(split.subset([7, 2, 2])) == [7, 2, 2]
    assert split.labels.tolist() == [i % 3 for i in range(9)]
    assert split.name(5) == "train-001.tar#1"
    image, label = split[4]
    assert (tuple(image.shape), label) == ((3, 8, 8), 1)
    assert torch.equal(split.load().images[4], image)
    assert len(split.draw(5, seed=0)) == 5
    few = source(tmp_path, train_limit=3)
    chosen = few.split("train")
    assert sorted(chosen.labels.tolist()) == [0, 1, 2]
    assert chosen.chosen.tolist() == sorted(chosen.chosen) == few.positions("train").tolist()
    assert few.num_classes == 3


def test_the_digest_is_of_shards_places_sizes_and_labels(tmp_path):
    index = index_shards(write_shards(tmp_path, [2, 3]))
    split = ShardFiles(str(tmp_path), index, np.array([1, 3]), image_size=8)
    expected = hashlib.sha256(b"train-000.tar\0train-001.tar")
    for pair in ([1, 1], index.sizes[[1, 3]], [1, 0]):
        expected.update(np.array(pair, "<i8").tobytes())
    assert split.digest() == split.quick_digest() == expected.hexdigest()


def spoil_index(root, **arrays):
    new = {name: np.array(values) for name, values in arrays.items()}
    index_shards(root)._replace(**new).save(root / "index.npz")


def spoil_header(root):
    write_tar(root / "train-001.tar", [("0.bin", b"0" * 9999), IMAGE])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda root: (root / "train-001.tar").unlink(), DataError, r"missing shard .*001\.tar"),
        (lambda root: (root / "index.npz").unlink(), DataError, "index.npz .*vje shards index"),
        (lambda root: (root / "index.npz").write_bytes(b"x"), DataError, "no readable index"),
        (lambda root: np.savez(root / "index.npz", starts=[0]), DataError, "no readable index"),
        (lambda root: cut(root / "train-001.tar", 600), DataError,
         r"3 corrupt images.*max_corrupt=2: train-001.tar#1 \(truncated shard\)"),
        (lambda root: spoil_index(root, labels=[0]), DataError, "do not fit together"),
        (lambda root: spoil_index(root, starts=[6, 2, 0]), DataError, "do not fit together"),
        (spoil_header, DataError, "not the shard that the index was made from"),
        (lambda root: (root / "train-001.tar").write_bytes(b"x" * 9999), DataError, "not the sha"),
    ],
)  # fmt: skip
def test_what_happened_to_shards_is_told(tmp_path, spoil, error, message):
    root = indexed(write_shards(tmp_path, [2, 4]))
    spoil(root)
    with pytest.raises(error, match=message):
        source(root, max_corrupt=2).split("train").load()


def test_a_truncated_shard_counts_as_damaged_images(tmp_path):
    root = indexed(write_shards(tmp_path, [6]))
    cut(root / "train-000.tar", int(index_shards(root).offsets[4]) + 3)
    split = source(root, max_corrupt=2).split("train")
    with pytest.raises(CorruptImage, match="truncated shard"):
        split.image(5)
    assert len(split.load()) == 4
    assert set(split.corrupt) == {"train-000.tar#4", "train-000.tar#5"}
    write_tar(root / "train-001.tar", [])
    with pytest.raises(DataError, match="hold no images"):
        source(indexed(root, pattern="train-001.tar"), "train-001.tar").split("train")


def test_splits_and_braces_without_the_extra(tmp_path, monkeypatch):
    root = indexed(write_shards(tmp_path, [2]))
    with pytest.raises(DataError, match="has no split 'test'; choose from pretrain, train"):
        source(root).split("test")
    assert set(source(root, val="train-000.tar").splits) == {"pretrain", "train", "val", "test"}
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    assert len(source(root, "train-*.tar::train-000.tar").split("train")) == 2
    with pytest.raises(DataError, match=r"pip install 'vje-pyro\[shards\]'"):
        source(root, "train-{000..000}.tar").split("train")


# ------------------------------------------------------------------------------------------- URLs


class Server(http.server.SimpleHTTPRequestHandler):
    """Sends files, and parts of files where ``ranges`` says so; breaks off ``broken`` times."""

    ranges, broken = True, 0

    def log_message(self, *_):
        pass

    def send_head(self):
        wanted = self.headers.get("Range")
        if wanted and Server.broken:
            Server.broken -= 1
            self.close_connection = True
            return None
        if not (wanted and Server.ranges):
            return super().send_head()
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        return io.BytesIO(part)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and its URL."""
    pytest.importorskip("aiohttp", reason="it is of the extra shards")
    monkeypatch.setattr("time.sleep", lambda _: None)
    handler = functools.partial(Server, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
    fsspec.implementations.http.HTTPFileSystem.clear_instance_cache()


def test_shards_behind_a_url(served, monkeypatch):
    root, url = served
    write_shards(root, [4, 5])
    pattern = "train-{000..001}.tar"
    command = ("shards", "index", url, "--shards", pattern, "--out", root / "index.npz")
    assert run_cli(*command) == 0
    split = source(url, pattern).split("train")
    for workers in (0, 2):  # fsspec has a thread, which workers do not inherit
        images = torch.cat([x for x, _ in batches(split, 4, workers)])
        assert images[:, 0, 0, 0].tolist() == list(range(9))
    assert split.digest() == source(root).split("train").digest()
    monkeypatch.setattr(Server, "broken", 2)
    assert values(split) == list(range(9))
    monkeypatch.setattr(Server, "broken", 99)
    with pytest.raises(DataError, match=r"cannot read .*000\.tar: ServerDisconnectedError"):
        split.image(0)
    monkeypatch.setattr(Server, "ranges", False)
    monkeypatch.setattr(Server, "broken", 0)
    with pytest.raises(DataError, match="not send parts of files"):
        split.image(0)
    (root / "train-000.tar").unlink()
    with pytest.raises(DataError, match=r"missing shard http.*train-000\.tar"):
        source(url, pattern).split("train")
    assert index_shards(url, "train-*.tar").shards.tolist() == ["train-001.tar"]  # as it lists them


def test_shards_in_an_object_store(tmp_path):
    """One that lists its objects; ``memory:`` stands for it."""
    write_shards(tmp_path, [3, 2])
    store = fsspec.filesystem("memory")
    for path in tmp_path.glob("*.tar"):
        store.pipe(f"/bucket/{path.name}", path.read_bytes())
    index_shards("memory://bucket").save(tmp_path / "index.npz")
    one = source("memory://bucket", index=str(tmp_path / "index.npz"))
    assert values(one.split("train")) == list(range(5))
    with pytest.raises(DataError, match="cannot read nothing://bucket: ValueError"):
        source("nothing://bucket", index=str(tmp_path / "index.npz")).split("train")


# ---------------------------------------------------------------------------------------- packing


def test_a_folder_is_packed_and_keeps_its_numbering(tmp_path):
    for name, count in (("train/ant", 5), ("train/bee", 6), ("test/bee", 3), ("new/wasp", 1)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / name / f"{i}.odd.name.jpg").write_bytes(picture(10 * i, "JPEG"))
    root = tmp_path / "shards"
    assert run_cli("shards", "pack", tmp_path / "train", root, "--per-shard", "4") == 0
    pack_folder(tmp_path / "test", root, "test")
    assert sorted(p.name for p in root.glob("*.tar")) == [
        "test-000000.tar", "train-000000.tar", "train-000001.tar", "train-000002.tar",
    ]  # fmt: skip
    one = source(root, test="test-000000.tar")
    train, folder = one.split("train"), ImageFolder(str(tmp_path / "train")).split("train")
    assert (one.num_classes, train.classes) == (2, ("ant", "bee"))
    assert one.split("test").labels.tolist() == [1, 1, 1]
    assert train.labels.tolist() != folder.labels.tolist()  # mixed
    packed = zip(train.contents(range(11)), train.labels.tolist(), strict=True)
    files = zip(folder.contents(range(11)), folder.labels.tolist(), strict=True)
    assert sorted(packed) == sorted(files)
    for part, name, message in (
        ("train", "train", r"has shards train-\*.tar already"),
        ("new", "new", r"has the classes \['wasp'\]"),
    ):
        with pytest.raises(DataError, match=message):
            pack_folder(tmp_path / part, root, name)
    with pytest.raises(DataError, match="per_shard must be at least 1"):
        pack_folder(tmp_path / "new", root, "x", per_shard=0)


def test_what_cannot_be_read_is_not_packed(tmp_path, caplog):
    folder = tmp_path / "ant"
    folder.mkdir()
    (folder / "a.JFIF").write_bytes(picture(10, "JPEG"))
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / os.fsdecode(b"caf\xe9") / "b.png").write_bytes(picture(20))
    index = pack_folder(tmp_path, tmp_path / "shards")
    assert (len(index.labels), index.classes.tolist()) == (2, ["ant", "caf\\xe9"])
    assert caplog.text.count("skipped corrupt image") == 2
