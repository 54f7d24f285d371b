"""One range for a data set: a dark image stays dark, in training, evaluation and embedding."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageFolder, images_to_uint8, load_images, read_outliers
from vje_pyro.data.value_ranges import checked_range, common_range, to_eight_bits
from vje_pyro.errors import DataError


@pytest.mark.parametrize(
    ("extents", "expected"),
    [
        ([(0, 200)], (0, 255)),
        ([(0, 256)], (0, 1023)),
        ([(7, 4095), (0, 12)], (0, 4095)),
        ([(0, 4096)], (0, 16383)),
        ([(0, 65535)], (0, 65535)),
        ([(0, 65536)], (0, 65536)),
        ([(-1024, 3071), (0, 9)], (-1024, 3071)),
        ([(0.0, 1.0)], (0.0, 1.0)),
        ([(0.2, 0.3)], (0.0, 1.0)),
        ([(0.0, 1.5)], (0.0, 255.0)),
        ([(0.0, 300.0)], (0.0, 1023.0)),
        ([(-0.5, 0.5), (0.0, 2.0)], (-0.5, 2.0)),
        ([(-3, -3)], (-3, -2)),
        ([], None),
    ],
)
def test_common_range(extents, expected):
    found = common_range(extents)
    assert found == expected
    assert found is None or type(found[0]) is type(expected[0]) is type(found[1])


@pytest.mark.parametrize(
    ("values", "value_range", "expected"),
    [
        *(
            (np.arange(2**b), (0, 2**b - 1), np.arange(2**b) >> (b - 8))
            for b in (8, 10, 12, 14, 16)
        ),
        ([-9, 0, 50, 99, 1000], (0, 99), [0, 0, 128, 253, 253]),
        ([-2.0, -1.0, 0.0, 1.0, 9.0], (-1.0, 1.0), [0, 0, 128, 255, 255]),
        ([0.0, np.nan], None, "NaN or infinite"),
        ([0.0, np.inf], None, "NaN or infinite"),
        ([0, 70000], None, r"from 0 to 70000 are beyond .* data.value_range"),
        ([1], (0.0, 1.0), r"integers, but the value range \[0.0, 1.0\]"),
        ([1.0], (0, 1), r"floating-point numbers, but .* \[0, 1\]"),
    ],
)
def test_to_eight_bits(values, value_range, expected):
    """The upper eight bits are kept, what lies outside is cut off, and odd values are refused."""
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            to_eight_bits(np.array(values), value_range)
    else:
        assert np.array_equal(to_eight_bits(np.array(values), value_range), expected)


def test_ranges_of_a_configuration():
    assert checked_range(None) is None
    assert checked_range([0, 4095]) == (0, 4095)
    for wrong in ([1, 0], [1, 1], [0], [0, 1, 2], [0, float("nan")]):
        with pytest.raises(ValueError, match="must be"):
            checked_range(wrong)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def levels(files):
    return [int(np.asarray(files.image(i)).max()) for i in range(len(files))]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_in_files_of_sixteen(tmp_path, suffix):
    for place, value in [("train/a/0", 4000), ("train/a/1", 400), ("test/a/0", 40)]:
        save(tmp_path / f"{place}.{suffix}", np.full((4, 4), value, np.uint16))
    source = ImageFolder(tmp_path, image_size=4, channels=1)
    assert source.find_value_range() == (0, 4095)
    assert "grey values of more than 8 bits: 0 is black, 4095 is white" in source.describe()
    assert levels(source.split("train")) == [4000 >> 4, 400 >> 4]
    assert levels(source.split("test")) == [40 >> 4]
    kept = ImageFolder(tmp_path, channels=1, value_range=source.find_value_range())
    assert levels(kept.split("train")) == levels(source.split("train"))
    other = load_images(tmp_path / "test", 4, 1, value_range=(0, 4095))[0].images
    assert other.unique().tolist() == [40 >> 4]
    assert levels(read_outliers(str(tmp_path / "test"), "nowhere", source)) == [40 >> 4]


def full(*values, dtype):
    return [np.full((4, 4), value, dtype) for value in values]


FLOATS = full(0.5, 100.0, 250.0, dtype=np.float32)


@pytest.mark.parametrize(
    ("images", "given", "found", "shown"),
    [
        (FLOATS, None, (0.0, 255.0), [0, 100, 250]),  # not 128, as if alone
        ([*FLOATS, *full(-250, dtype=np.float32)], None, (-250.0, 250.0), [128, 178, 255, 0]),
        (FLOATS, [0.0, 100.0], (0.0, 100.0), [1, 255, 255]),
        (full(0.2, dtype=np.float32), None, (0.0, 1.0), [51]),
        (full(200, dtype=np.uint8), None, None, [200]),
        ([*full(200, dtype=np.uint8), *full(900, dtype=np.uint16)], None, (0, 1023), [200, 225]),
        ([*FLOATS, *full(900, dtype=np.uint16)], None, "some grey images hold integers", None),
    ],
)
def test_files_of_one_range(tmp_path, images, given, found, shown):
    for i, image in enumerate(images):
        save(tmp_path / f"{i}.{'tif' if image.dtype == np.float32 else 'png'}", image)
    source = ImageFolder(tmp_path, value_range=given)
    if shown is None:
        with pytest.raises(DataError, match=f"{tmp_path.name}: {found}"):
            source.split("train")
    else:
        assert source.find_value_range() == found
        assert levels(source.split("train")) == shown


def test_images_with_nan_are_damaged(tmp_path):
    save(tmp_path / "0.tif", np.full((4, 4), np.nan, np.float32))
    save(tmp_path / "1.tif", np.full((4, 4), 0.2, np.float32))
    source = ImageFolder(tmp_path, image_size=4, in_memory=True)
    assert source.split("train").images.unique().tolist() == [51]
    assert source.find_value_range() == (0.0, 1.0)


def colour_of_sixteen_bits(path, value):
    """A PNG, which Pillow does not write."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    size = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">H", value) * 12) * 4
    parts = chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_colour_of_twelve_bits_in_sixteen_is_warned_about(tmp_path, caplog):
    for i, value in enumerate((4000, 3999, 40000)):
        caplog.clear()
        colour_of_sixteen_bits(tmp_path / f"{i}.png", value)
        assert ImageFolder(tmp_path).find_value_range() is None
        warned = "colour images of 16 bits that are darker than 1/16" in caplog.text
        assert warned is (value < 4096)


def test_images_that_are_given_are_one_set(tmp_path, caplog):
    for i, value in enumerate([30, 3000]):
        save(tmp_path / f"{i}.png", np.full((4, 4), value, np.uint16))
    assert load_images(tmp_path, 4, 1)[0].images[:, 0, 0, 0].tolist() == [30 >> 4, 3000 >> 4]
    assert "of which 0 is black and 4095 white" in caplog.text


@pytest.mark.parametrize(
    ("images", "value_range", "expected"),
    [
        (np.full((1, 6, 6, 1), 4000, np.uint16), (0, 4095), 250),
        (np.full((1, 6, 6, 1), 200, np.uint8), (0, 4095), 200),
        (np.full((1, 6, 6, 1), 0.5), (0, 4095), 128),
        (torch.full((1, 1, 6, 6), -1.0), (-1.0, 1.0), 0),
        (Image.fromarray(np.full((6, 8), 4000, np.uint16)), (0, 4095), 250),
    ],
)
def test_arrays_lie_in_the_range_of_the_run(images, value_range, expected):
    assert images_to_uint8(images, 1, 6, value_range).unique().tolist() == [expected]
