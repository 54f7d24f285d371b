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


def test_integers_and_floating_point_numbers_do_not_mix():
    with pytest.raises(ValueError, match="no common range"):
        common_range([(0, 255), (0.0, 1.0)])
    with pytest.raises(ValueError, match=r"integers, where the value range \[0.0, 1.0\]"):
        to_eight_bits(np.array([1]), (0.0, 1.0))
    with pytest.raises(ValueError, match=r"floating-point numbers, where .* \[0, 1\]"):
        to_eight_bits(np.array([1.0]), (0, 1))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_upper_eight_bits_are_kept(bits):
    values = np.arange(2**bits)
    assert np.array_equal(to_eight_bits(values, (0, 2**bits - 1)), values >> (bits - 8))


def test_what_lies_outside_is_cut_off():
    assert to_eight_bits(np.array([-9, 0, 50, 99, 1000]), (0, 99)).tolist() == [0, 0, 128, 253, 253]
    values = np.array([-2.0, -1.0, 0.0, 1.0, 9.0])
    assert to_eight_bits(values, (-1.0, 1.0)).tolist() == [0, 0, 128, 255, 255]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_eight_bits(np.array([0.0, bad]))
    with pytest.raises(ValueError, match=r"from 0 to 70000 are beyond .* data.value_range"):
        to_eight_bits(np.array([0, 70000]))


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
    outliers = read_outliers(str(tmp_path / "test"), "nowhere", source)
    assert levels(outliers) == [40 >> 4]


def test_floating_point_numbers(tmp_path):
    for i, value in enumerate([0.5, 100.0, 250.0]):
        save(tmp_path / f"{i}.tif", np.full((4, 4), value, np.float32))
    assert levels(ImageFolder(tmp_path).split("train")) == [0, 100, 250]  # not 128, as if alone
    save(tmp_path / "3.tif", np.full((4, 4), -250, np.float32))
    negative = ImageFolder(tmp_path)
    assert negative.find_value_range() == (-250.0, 250.0)
    assert levels(negative.split("train")) == [128, 178, 255, 0]
    assert levels(ImageFolder(tmp_path, value_range=[0.0, 100.0]).split("train")) == [
        1,
        255,
        255,
        0,
    ]


def test_images_with_nan_are_damaged(tmp_path):
    save(tmp_path / "0.tif", np.full((4, 4), np.nan, np.float32))
    save(tmp_path / "1.tif", np.full((4, 4), 0.2, np.float32))
    source = ImageFolder(tmp_path, image_size=4, in_memory=True)
    assert source.split("train").images.unique().tolist() == [51]
    assert source.find_value_range() == (0.0, 1.0)


def test_eight_bit_images_are_as_they_are(tmp_path):
    save(tmp_path / "0.png", np.full((4, 4), 200, np.uint8))
    assert ImageFolder(tmp_path).find_value_range() is None
    save(tmp_path / "1.png", np.full((4, 4), 900, np.uint16))
    assert levels(ImageFolder(tmp_path).split("train")) == [200, 900 >> 2]


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
    for i in range(3):
        colour_of_sixteen_bits(tmp_path / f"{i}.png", 4000 - i)
    assert ImageFolder(tmp_path).find_value_range() is None
    assert "colour images of 16 bits that are darker than 1/16" in caplog.text
    caplog.clear()
    colour_of_sixteen_bits(tmp_path / "3.png", 40000)
    assert ImageFolder(tmp_path).find_value_range() is None
    assert not caplog.text


def test_a_mixture_is_refused(tmp_path):
    save(tmp_path / "0.tif", np.zeros((4, 4), np.float32))
    save(tmp_path / "1.png", np.full((4, 4), 900, np.uint16))
    with pytest.raises(DataError, match=f"{tmp_path.name}: some grey images hold integers"):
        ImageFolder(tmp_path).split("train")


def test_images_that_are_given_are_one_set(tmp_path, caplog):
    for i, value in enumerate([30, 3000]):
        save(tmp_path / f"{i}.png", np.full((4, 4), value, np.uint16))
    assert load_images(tmp_path, 4, 1)[0].images[:, 0, 0, 0].tolist() == [30 >> 4, 3000 >> 4]
    assert "of which 0 is black and 4095 white" in caplog.text


def test_arrays_lie_in_the_range_of_the_run():
    twelve = np.full((1, 6, 6, 1), 4000, np.uint16)
    assert images_to_uint8(twelve, 1, 6, (0, 4095)).unique().tolist() == [250]
    assert images_to_uint8(np.full((1, 6, 6, 1), 200, np.uint8), 1, 6, (0, 4095)).max() == 200
    assert images_to_uint8(np.full((1, 6, 6, 1), 0.5), 1, 6, (0, 4095)).max() == 128
    signed = torch.full((1, 1, 6, 6), -1.0)
    assert images_to_uint8(signed, 1, 6, (-1.0, 1.0)).max() == 0
    with pytest.raises(ValueError, match="integers in 0…255"):
        images_to_uint8(twelve, 1, 6)
    picture = Image.fromarray(np.full((6, 8), 4000, np.uint16))
    assert images_to_uint8(picture, 3, 6, (0, 4095)).unique().tolist() == [250]
