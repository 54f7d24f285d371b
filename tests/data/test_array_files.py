"""Array files are refused from their headers, before memory is taken."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from vje_pyro.data import array_files, load_images
from vje_pyro.data.array_files import open_arrays
from vje_pyro.errors import DataError


def header(shape, descr="|u1", fortran=False):
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"shape": shape, "descr": descr, "fortran_order": fortran})
    return stream.getvalue()


def archive(path, name, content, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content, **options)
    return path


def no_array_is_made(*args, **kwargs):
    """Where a header must be enough, reading on is a failure."""
    raise AssertionError("the array was read")


HEADERS = {
    "petabytes": header((10**6, 10**5, 10**5)),
    "overflow": header((2**62, 2**62)),
    "negative": header((-1, 8, 8)),
    "negative-twice": header((-4, -4, 8)),
    "objects": header((4,), "|O"),
    "structures": header((4,), [("a", "|O")]),
    "truncated": header((4, 8, 8)) + bytes(100),
    "unknown-version": header((1,)).replace(b"NUMPY\x01", b"NUMPY\x09"),
    "long-header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
    "no-header": b"\x93NUMPY\x01\x00",
    "code": b"\x93NUMPY\x01\x00\x10\x00__import__('os')",
    "empty": b"",
    "pickle": b"\x80\x04N.",
}


def unfolds(path):
    """An archive whose member promises more than it has."""
    archive(path, "images.npy", header((2**40,)) + bytes(8))
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):  # size when unfolded
        struct.pack_into("<I", content, content.index(mark) + place, 2**32 - 2)
    path.write_bytes(content)


REFUSED = {
    **{f"{n}.npy": (lambda path, h=h: path.write_bytes(h), "") for n, h in HEADERS.items()},
    **{f"{n}.npz": (lambda path, h=h: archive(path, "x.npy", h), "") for n, h in HEADERS.items()},
    "bomb.npz": (
        lambda path: archive(path, "x.npy", header((2**25,)) + bytes(2**25)),
        r".*expands 1[0-9]{3}-fold",
    ),
    "promise.npz": (unfolds, r".*(expands|describes)"),
    "memory.npy": (
        lambda path: np.save(path, np.zeros((20, 8, 8), np.uint8)),
        ".*1,280 bytes are more than this machine's memory",
    ),
    "pipe.npy": (os.mkfifo, ".*not a regular file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_memory_is_taken(tmp_path, name, monkeypatch):
    write, message = REFUSED[name]
    write(tmp_path / name)
    monkeypatch.setattr(npy, "read_array", no_array_is_made)
    if "memory" in name:
        monkeypatch.setattr(array_files, "_memory", lambda: 1000)
    refusal = f"{name}: not a readable array file: (?!the array was){message}"
    with pytest.raises(DataError, match=refusal):
        load_images(tmp_path / name, 8)


def test_only_what_is_asked_for_is_read(tmp_path):
    images = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    np.savez(tmp_path / "a.npz", x=images, paths=np.array(["a", None], object))
    assert load_images(tmp_path / "a.npz", 8, 1)[0].images[:, 0].numpy().tolist() == images.tolist()


def test_what_can_be_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    for name, array in {
        "fortran": np.asfortranarray(images),
        "big-endian": images.astype(">i4"),
        "booleans": images > 99,
        "half": (images / 255).astype(np.float16),
        "strided": np.repeat(images, 2, 0)[::2],
    }.items():
        np.save(tmp_path / "a.npy", array)
        expected = np.uint8(255) * (images > 99) if name == "booleans" else images
        assert np.array_equal(load_images(tmp_path / "a.npy", 8, 1)[0].images[:, 0], expected), name


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "V4", [("a", "u1")]])
def test_numbers_of_another_kind(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 8), dtype))
    with pytest.raises(DataError, match="numbers"):
        load_images(tmp_path / "a.npy", 8)


@pytest.mark.parametrize("shape", [(5, 0, 8, 3), (5, 8, 0), (0, 8, 8), (), (8,), (1, 1, 8, 8, 3)])
def test_shapes_without_images(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError):
        load_images(tmp_path / "a.npy", 8)


def test_archives_that_are_damaged(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(640, dtype=np.uint8).reshape(10, 8, 8))
    content = (tmp_path / "a.npz").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        changed = bytearray(content)
        for place in random.integers(len(content), size=3):
            changed[place] = random.integers(256)
        (tmp_path / "b.npz").write_bytes(changed[: len(content) - trial % 2 * trial])
        try:
            load_images(tmp_path / "b.npz", 8)
        except DataError:
            refused += 1
    assert refused > 30


def test_an_archive_is_a_mapping(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.ones(2))
    with open_arrays(tmp_path / "a.npz") as arrays:
        assert sorted(arrays) == ["x", "y"]
        assert (len(arrays), arrays["y"].tolist()) == (2, [1, 1])
