"""Whatever a decoder meets: pixels, or a damaged image; never another exception."""

import io
import os
import socket
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from vje_pyro.data.decoding import (
    CorruptImage,
    convert,
    decode,
    image_suffixes,
    printable,
    read_file,
)
from vje_pyro.data.metadata import without_metadata

ORIENTATION = (0x112, 3, 1, struct.pack("<H", 6))
ILL_TYPED = [
    (0x132, 5, 1, struct.pack("<II", 1, 1)),  # a date that is a fraction
    (0x11A, 2, 6, b"72dpi\0"),  # a resolution that is a text
    (0x11A, 5, 1, struct.pack("<II", 1, 0)),  # one over zero
    (0x8769, 3, 1, struct.pack("<H", 65535)),  # a directory beyond the end
    (0x9286, 7, 2**31, b"\0\0\0\1"),  # a comment of two gigabytes
    (0x10E, 99, 1, b"abcd"),  # a type that does not exist
]


def pixels(height=8, width=12):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 30, x * 20, np.full_like(x, 90)], -1).astype(np.uint8)


def encode(format, image=None, **options):
    stream = io.BytesIO()
    (image or Image.fromarray(pixels())).save(stream, format, **options)
    return stream.getvalue()


def exif(*entries):
    data, offset = b"", 14 + 12 * len(entries)
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHI", tag, kind, count)
        if len(value) <= 4:
            directory += value.ljust(4, b"\0")
        else:
            directory += struct.pack("<I", offset + len(data))
            data += value
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + bytes(4) + data


def chunk(kind, content, crc=None):
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def with_chunk(png, added):
    return png[:33] + added + png[33:]


@pytest.mark.parametrize("entry", ILL_TYPED, ids=lambda e: f"{e[0]:x}")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_an_ill_typed_tag_costs_neither_pixels_nor_orientation(format, entry):
    options = {"lossless": True} if format == "WEBP" else {}
    upright = np.asarray(decode(encode(format, **options)))
    turned = np.asarray(decode(encode(format, exif=exif(ORIENTATION, entry), **options)))
    assert np.array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize(
    "orientation", [b"\x09\x00", b"\xff\xff", b"\x00\x00"], ids=["9", "65535", "0"]
)
def test_an_orientation_that_does_not_exist(orientation):
    content = encode("PNG", exif=exif((0x112, 3, 1, orientation)))
    assert np.array_equal(decode(content), pixels())


@pytest.mark.parametrize(
    "added",
    [
        pytest.param(chunk(b"tEXt", b"Comment\0hello", crc=1), id="wrong checksum"),
        pytest.param(
            chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 23))), id="text that swells"
        ),
        pytest.param(chunk(b"zTXt", b"k\0\7abc"), id="unknown compression"),
        pytest.param(chunk(b"iTXt", b"\xff\0\1\7\0\0x"), id="international text"),
        pytest.param(chunk(b"iCCP", b"name"), id="colour profile without an end"),
        pytest.param(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"), id="exif beyond the end"),
        pytest.param(chunk(b"pHYs", b"\0"), id="resolution cut short"),
        pytest.param(chunk(b"gAMA", b""), id="gamma cut short"),
        pytest.param(chunk(b"cHRM", b"abc"), id="chromaticities cut short"),
        pytest.param(chunk(b"acTL", b"\0\0"), id="animation cut short"),
    ],
)
def test_broken_chunks_of_a_png(added):
    assert np.array_equal(decode(with_chunk(encode("PNG"), added)), pixels())


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE])
@pytest.mark.parametrize(
    "content",
    [b"", b"Exif\0\0", b"MPF\0II*\0\xff\xff\xff\xff", b"ICC_PROFILE\0\0", b"Photoshop 3.0\x008BIM",
     b"Exif\0\0II*\0\x08\0\0\0\xff\xff"],
)  # fmt: skip
def test_broken_segments_of_a_jpeg(marker, content):
    plain = encode("JPEG")
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    assert np.array_equal(decode(plain[:2] + segment + plain[2:]), decode(plain))


def test_a_tiff_with_a_resolution_that_is_no_number():
    content = bytearray(encode("TIFF", dpi=(72, 72), resolution_unit="cm"))
    (start,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        if struct.unpack_from("<H", content, place)[0] in (282, 283):
            struct.pack_into("<HI4s", content, place + 2, 2, 4, b"abc\0")
    assert np.array_equal(decode(bytes(content)), pixels())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_without_metadata_the_pixels_are_the_same(format):
    plain = encode(format)
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 100)
    options = {"PNG": {"pnginfo": info, "dpi": (72, 72)}, "TIFF": {"description": "x"}}
    full = encode(format, **options.get(format, {"exif": exif(ORIENTATION), "dpi": (72, 72)}))
    bare = without_metadata(full)
    assert (b"Exif" in bare, b"Comment" in bare) == (False, False)
    assert np.array_equal(decode(bare), decode(plain))


ERRORS = [
    Image.DecompressionBombError("x"), SyntaxError("x"), struct.error("x"), MemoryError(),
    RecursionError("x"), KeyError("x"), AssertionError(), OverflowError("x"), ZeroDivisionError(),
    NotImplementedError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), UserWarning("x"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("place", ["PIL.Image.open", "PIL.ImageFile.ImageFile.load"])
def test_any_exception_of_the_decoder_is_a_damaged_image(monkeypatch, error, place):
    def fail(*args, **kwargs):
        raise error

    content = encode("PNG")
    monkeypatch.setattr(place, fail)
    with pytest.raises(CorruptImage, match=type(error).__name__):
        decode(content)


def test_warnings_that_were_made_errors_do_not_cost_the_pixels():
    content = encode("JPEG", exif=exif(ORIENTATION, ILL_TYPED[-1]))
    with warnings.catch_warnings(action="error"):
        assert decode(content).size == (8, 12)


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = encode("PNG")
    with pytest.raises(CorruptImage, match="Bomb"):
        decode(png[:8] + chunk(b"IHDR", header) + png[33:])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000"])
def test_any_mutilation_gives_pixels_or_a_damaged_image(format):
    content = encode(format, Image.fromarray(pixels(16, 16)))
    random = np.random.default_rng(0)
    outcomes = []
    for trial in range(60):
        changed = bytearray(content)
        if trial % 3 == 0:
            changed = changed[: random.integers(len(content))]
        for place in random.integers(len(content), size=trial % 3 * 2):
            changed[place] = random.integers(256)
        try:
            outcomes.append(decode(bytes(changed)).mode)
        except CorruptImage:
            outcomes.append("damaged")
    assert set(outcomes) <= {"RGB", "damaged"}
    assert "damaged" in outcomes


def test_no_other_program_is_started_for_a_picture():
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(CorruptImage, match="cannot identify"):
        decode(page)
    assert {".eps", ".pdf", ".mpeg", ".h5", ".wmf"}.isdisjoint(image_suffixes())


def test_suffixes_are_those_that_pillow_reads():
    common = ".jfif .jpe .jpg .jpeg .png .avif .jp2 .webp .tif .tiff .bmp .gif .ppm .mpo .qoi .tga"
    assert set(common.split()) <= image_suffixes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize(("channels", "made"), [(3, "RGB"), (1, "L")])
def test_modes(mode, channels, made):
    image = Image.new("RGB", (4, 4), "white").convert("L" if mode in ("LA", "PA") else "RGB")
    converted = convert(
        image.convert("P").convert(mode) if mode == "PA" else image.convert(mode), channels
    )
    assert converted.mode == made
    assert np.asarray(converted).min() > 250


def test_transparency_in_any_number_of_levels():
    palette = Image.new("P", (3, 1))
    palette.putpalette([0, 0, 0, 0, 0, 0, 0, 0, 0])
    palette.putdata([0, 1, 2])
    content = encode("PNG", palette, transparency=bytes([0, 128, 255]))
    assert np.asarray(decode(content, 1)).tolist() == [[255, 127, 0]]


def test_only_regular_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        (tmp_path / "device.png").symlink_to("/dev/zero")
        (tmp_path / "loop.png").symlink_to("loop.png")
        (tmp_path / "gone.png").symlink_to("nowhere")
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "empty.png").touch()
        for name in ("pipe", "socket", "device", "loop", "gone", "folder", "empty", "absent"):
            with pytest.raises(CorruptImage):
                decode(tmp_path / f"{name}.png")
    with pytest.raises(CorruptImage, match="not a regular file"):
        read_file(tmp_path / "pipe.png")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 40)  # takes no room
    with pytest.raises(CorruptImage, match="1,099,511,627,776 bytes are too many"):
        decode(tmp_path / "a.png")


def test_names_are_bytes(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(encode("PNG"))
    assert np.array_equal(decode(tmp_path / name), pixels())
    assert printable(name) == "caf\\xe9.png"
    assert printable("é.png") == "é.png"
    assert printable("a\nerror: b\x1b[0m.png") == "a\\nerror: b\\x1b[0m.png"
