"""Images in files: what is decoded, counted and hashed; and the images that a user points at."""

import hashlib
import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageArray, ImageFiles, load_images
from vje_pyro.data import files as module
from vje_pyro.data.decoding import decode
from vje_pyro.errors import DataError


def gradient(height=12, width=16):
    """Colours that tell top from bottom and left from right."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 20, x * 15, np.full_like(x, 40)], -1).astype(np.uint8)


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(gradient()) if image is None else image
    image.save(path, **options)
    return path


def damage(path):
    save(path)
    path.write_bytes(path.read_bytes()[:60])
    return path


def files(root, names, labels=None, **options):
    labels = torch.arange(len(names)) if labels is None else labels
    return ImageFiles(root, names, labels, **({"image_size": 8} | options))


def upside_down():
    exif = Image.Exif()
    exif[0x0112] = 3
    return {"exif": exif}


def half_transparent():
    rgba = np.dstack([gradient(), np.full((12, 16), 255, np.uint8)])
    rgba[:6, :, 3] = 0
    return rgba


def palette():
    image = Image.fromarray((np.arange(4, dtype=np.uint8) % 2).reshape(2, 2)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    return image


WHITE, GREY = np.full((6, 16, 3), 255), gradient()[..., 1]
UPPER_BYTE = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("image", "options", "channels", "expected"),
    [
        pytest.param(gradient(), {}, 3, gradient(), id="RGB"),
        pytest.param(GREY, {}, 3, GREY[..., None].repeat(3, -1), id="grey to colour"),
        pytest.param(GREY, {}, 1, GREY, id="grey"),
        pytest.param(half_transparent(), {}, 3, np.concatenate([WHITE, gradient()[6:]]), id="RGBA"),
        pytest.param(
            palette(), {"transparency": 0}, 3, [[[255] * 3, [200, 100, 50]]] * 2, id="palette"
        ),
        pytest.param(UPPER_BYTE, {}, 1, [[0, 0, 1], [128, 255, 255]], id="16 bits"),
        pytest.param(gradient(), upside_down(), 3, gradient()[::-1, ::-1], id="upside down"),
    ],
)
def test_pixels(tmp_path, image, options, channels, expected):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    made = decode(save(tmp_path / "a.png", image, **options), channels)
    assert np.array_equal(made, expected)


@pytest.mark.parametrize(
    ("values", "value_range", "white"),
    [([0.0, 0.5, 1.0], None, 255), ([0.0, 100.0, 200.0], (0.0, 255.0), 200)],
)
def test_floating_point_grey(tmp_path, values, value_range, white):
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([values], np.float32)))
    assert np.asarray(decode(path, 1, value_range))[0, 2] == white


def test_tensor_is_the_central_square(tmp_path):
    save(tmp_path / "a.png")
    tensor = files(tmp_path, ["a.png"], image_size=12).tensor(0)
    assert torch.equal(tensor, torch.from_numpy(gradient()[:, 2:14]).permute(2, 0, 1))
    inner = files(tmp_path, ["a.png"], image_size=6, crop_fraction=0.5).tensor(0)
    assert torch.equal(inner, torch.from_numpy(gradient()[3:9, 5:11]).permute(2, 0, 1))


def test_mixed_sizes_and_modes_load_together(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", Image.new("L", (30, 9), 7))
    save(tmp_path / "c.png", Image.new("RGBA", (5, 50), (1, 2, 3, 255)))
    loaded = files(tmp_path, ["a.png", "b.png", "c.png"]).load()
    assert loaded.images.shape == (3, 3, 8, 8)
    assert (loaded.images[1] == 7).all()
    assert loaded.images[2, :, 0, 0].tolist() == [1, 2, 3]


def test_corrupt_files_are_counted_named_and_skipped(tmp_path, caplog):
    save(tmp_path / "a.png")
    save(tmp_path / "c.png")
    damage(tmp_path / "b.png")
    split = files(tmp_path, ["a.png", "b.png", "c.png"], max_corrupt=1)
    with caplog.at_level(logging.WARNING):
        loaded = split.load()
    assert loaded.labels.tolist() == [0, 2]
    assert "b.png" in caplog.text
    split.load()
    assert list(split.corrupt) == ["b.png"]  # not counted twice
    with pytest.raises(DataError, match=r"b\.png"):
        split[1]
    for name in ("a.png", "c.png"):
        damage(tmp_path / name)
    again = files(tmp_path, ["a.png", "b.png", "c.png"], max_corrupt=2)
    with pytest.raises(DataError, match=r"3 corrupt images.*max_corrupt=2.*a\.png.*raise max_"):
        again.load()


def test_the_digest_is_of_names_sizes_and_labels(tmp_path, monkeypatch):
    odd = os.fsdecode(b"caf\xe9.png")
    names = [os.path.join("x", name) for name in ("a.png", "é.png", "gone.png", odd)]
    sizes = [save(tmp_path / name).stat().st_size for name in names]
    (tmp_path / names[2]).unlink()
    (tmp_path / names[2]).symlink_to("nowhere")
    lines = (
        f"x/a.png\0{sizes[0]}\x000\nx/é.png\0{sizes[1]}\x001\nx/gone.png\0-1\x002\n"
        f"x/{odd}\0{sizes[3]}\x003\n"
    )
    split = files(tmp_path, names)
    assert split.digest() == hashlib.sha256(os.fsencode(lines)).hexdigest()
    part = split.subset([2, 0])
    assert (part.names, part.labels.tolist()) == ([names[2], names[0]], [2, 0])


@pytest.mark.parametrize("most", [5, 100])
def test_a_quick_digest_reads_few_sizes(tmp_path, most, monkeypatch):
    monkeypatch.setattr(module, "SIZES", most)
    names = [f"{i:02}.png" for i in range(20)]
    for i, name in enumerate(names):
        save(tmp_path / name, Image.new("RGB", (4, 4 + i)))
    read, getsize = [], os.path.getsize
    monkeypatch.setattr(os.path, "getsize", lambda path: read.append(path) or getsize(path))
    labels = torch.zeros(20).long()
    first = files(tmp_path, names, labels).quick_digest()
    assert len(read) <= most
    os.utime(tmp_path / "03.png")  # a copy of the data is the data
    assert first == files(tmp_path, names, labels).quick_digest()
    others = [files(tmp_path, names[:19], labels[:19]), files(tmp_path, names, labels + 1)]
    digests = {first, *(split.quick_digest() for split in others)}
    (tmp_path / "00.png").write_bytes(b"longer than before" * 100)
    digests.add(files(tmp_path, names, labels).quick_digest())
    assert len(digests) == 4
    array = ImageArray(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    assert array.quick_digest() == array.digest()


# -------------------------------------------------------------------------- what a user points at


def test_load_images_from_a_folder_and_a_file(tmp_path):
    save(tmp_path / "x" / "a.png")
    save(tmp_path / "b.png")
    damage(tmp_path / "bad.png")
    loaded, names = load_images(tmp_path, 8, 3, max_corrupt=1)
    assert names == ["b.png", "x/a.png"]
    assert loaded.images.shape == (2, 3, 8, 8)
    assert loaded.labels.tolist() == [-1, -1]
    loaded, names = load_images(tmp_path / "b.png", 8, 1)
    assert (names, loaded.images.shape) == (["b.png"], (1, 1, 8, 8))


def test_load_images_from_arrays(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "b.npz", x=pixels, y=np.arange(4), classes=["a", "b"])
    np.savez(tmp_path / "grey.npz", pixels[..., 0])
    for name in ("a.npy", "b.npz"):
        loaded, names = load_images(tmp_path / name, 8)
        assert torch.equal(loaded.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert names[3] == f"{name}[3]"
    assert loaded.labels.tolist() == [0, 1, 2, 3]
    assert load_images(tmp_path / "grey.npz", 8)[0].images.shape == (4, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("", lambda path: damage(path / "bad.png"), r"bad\.png"),
        ("bad.png", damage, r"bad\.png"),
        ("absent.png", lambda path: None, "no such image"),
        ("a.npz", lambda path: np.savez(path, a=np.zeros(3), b=np.zeros(3)), "'images' or 'x'"),
        ("a.npy", lambda path: np.save(path, np.full((2, 8, 8), 7.0)), "from 7 to 7"),
        ("a.npz", lambda path: path.write_bytes(b"PK\x03\x04 no"), "not a readable"),
        ("a.npy", lambda path: np.save(path, np.zeros((0, 8, 8))), "holds no images"),
    ],
)
def test_load_images_refuses(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_images(tmp_path / name, 8, max_corrupt=0)
