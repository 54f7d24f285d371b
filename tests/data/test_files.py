import hashlib
import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageFiles, list_images, load_images
from vje_pyro.data.decoding import CorruptImage, decode
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


def files(root, names, **options):
    options = {"image_size": 8} | options
    return ImageFiles(root, names, torch.arange(len(names)), **options)


def test_rgb_png_is_exact(tmp_path):
    assert np.array_equal(decode(save(tmp_path / "a.png")), gradient())


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = gradient()[..., 1]
    decoded = np.asarray(decode(save(tmp_path / "a.png", Image.fromarray(grey))))
    assert np.array_equal(decoded, grey[..., None].repeat(3, -1))
    assert np.array_equal(decode(tmp_path / "a.png", channels=1), grey)


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([gradient(), np.full((12, 16), 255, np.uint8)])
    rgba[:6, :, 3] = 0
    decoded = np.asarray(decode(save(tmp_path / "a.png", Image.fromarray(rgba))))
    assert (decoded[:6] == 255).all()
    assert np.array_equal(decoded[6:], gradient()[6:])


def test_palette_with_a_transparent_colour(tmp_path):
    palette = Image.fromarray((np.arange(4, dtype=np.uint8) % 2).reshape(2, 2), mode=None)
    palette = palette.convert("P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    decoded = np.asarray(decode(save(tmp_path / "a.png", palette, transparency=0)))
    assert decoded[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path):
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    decoded = np.asarray(decode(save(tmp_path / "a.png", Image.fromarray(values)), channels=1))
    assert decoded.tolist() == [[0, 0, 1], [128, 255, 255]]


@pytest.mark.parametrize(
    ("values", "value_range", "white"),
    [([0.0, 0.5, 1.0], None, 255), ([0.0, 100.0, 200.0], (0.0, 255.0), 200)],
)
def test_floating_point_grey(tmp_path, values, value_range, white):
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([values], np.float32)))
    assert np.asarray(decode(path, 1, value_range))[0, 2] == white


def test_cmyk_is_converted(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(gradient()).convert("CMYK"), quality=95)
    decoded = decode(path)
    assert decoded.mode == "RGB"
    assert np.abs(np.asarray(decoded).astype(int) - gradient()).mean() < 12


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(path), gradient()[::-1, ::-1])


def test_damage_is_told(tmp_path):
    for path in (damage(tmp_path / "a.png"), tmp_path / "text.png", tmp_path / "empty.jpg"):
        if not path.exists():
            path.write_text("hello" if path.stem == "text" else "")
        with pytest.raises(CorruptImage):
            decode(path)


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
    assert list(split.corrupt) == ["b.png"]
    assert "b.png" in caplog.text
    split.load()
    assert len(split.corrupt) == 1  # not counted twice
    with pytest.raises(DataError, match=r"b\.png"):
        split[1]


def test_more_corrupt_files_than_the_limit(tmp_path):
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        damage(tmp_path / name)
    with pytest.raises(DataError, match=r"3 corrupt images.*max_corrupt=2.*0\.png.*raise max_"):
        files(tmp_path, names, max_corrupt=2).load()
    with pytest.raises(DataError, match="none of the 4"):
        files(tmp_path, names, max_corrupt=4).load()


def test_digest_and_subset(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png")
    split = files(tmp_path, ["a.png", "b.png", "c.png"])
    part = split.subset([2, 0])
    assert part.names == ["c.png", "a.png"]
    assert part.labels.tolist() == [2, 0]
    assert part.digest() != split.digest() == split.subset([0, 1, 2]).digest()
    before = split.digest()
    (tmp_path / "a.png").write_bytes(b"another size")
    assert split.digest() != before


def test_list_images_is_sorted_recursive_and_leaves_out_the_rest(tmp_path):
    for name in ("b.PNG", "a/z.jpg", "a/b/c.webp", ".hidden/x.png", "a/.y.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert list_images(tmp_path) == ["a/b/c.webp", "a/z.jpg", "b.PNG"]


def test_list_images_without_images(tmp_path):
    with pytest.raises(DataError, match="no image in"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="absent"):
        list_images(tmp_path / "absent")


def test_the_digest_is_of_names_sizes_and_labels(tmp_path):
    sizes = [save(tmp_path / "x" / name).stat().st_size for name in ("a.png", "é.png")]
    names = [os.path.join("x", name) for name in ("a.png", "é.png", "gone.png")]
    (tmp_path / names[2]).symlink_to("nowhere")
    lines = f"x/a.png\0{sizes[0]}\x000\nx/é.png\0{sizes[1]}\x001\nx/gone.png\0-1\x002\n"
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert files(tmp_path, names).digest() == expected
    odd = os.fsdecode(b"caf\xe9.png")
    save(tmp_path / odd)
    assert files(tmp_path, [odd]).digest() != files(tmp_path, ["a.png"]).digest()


def test_load_images_from_a_folder(tmp_path):
    save(tmp_path / "x" / "a.png")
    save(tmp_path / "b.png")
    damage(tmp_path / "bad.png")
    loaded, names = load_images(tmp_path, 8, 3, max_corrupt=1)
    assert names == ["b.png", "x/a.png"]
    assert loaded.images.shape == (2, 3, 8, 8)
    assert loaded.labels.tolist() == [-1, -1]
    with pytest.raises(DataError, match=r"bad\.png"):
        load_images(tmp_path, 8, 3, max_corrupt=0)


def test_load_images_from_one_file(tmp_path):
    loaded, names = load_images(save(tmp_path / "a.png"), 8, 1)
    assert names == ["a.png"]
    assert loaded.images.shape == (1, 1, 8, 8)
    with pytest.raises(DataError, match=r"bad\.png"):
        load_images(damage(tmp_path / "bad.png"), 8)
    with pytest.raises(DataError, match="no such image"):
        load_images(tmp_path / "absent.png", 8)


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


def test_load_images_refuses_bad_arrays(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "names.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "range.npy", np.full((2, 8, 8), 7.0))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no")
    expected = {
        "pickle.npy": "not a readable",
        "names.npz": "'images' or 'x'",
        "range.npy": "from 7 to 7",
        "broken.npz": "not a readable",
    }
    for name, message in expected.items():
        with pytest.raises(DataError, match=message):
            load_images(tmp_path / name, 8)
