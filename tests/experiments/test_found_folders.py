"""Every command on a folder as people have it: odd names, odd files, links to nowhere."""

import os
import struct

import numpy as np
import pytest
from commandline import run_cli
from PIL import Image

import vje_pyro
from vje_pyro.evaluation import Result

LATIN = os.fsdecode(b"caf\xe9")
"""A name from an archive that was packed with another encoding."""

TRAIN = (
    "data=folder", "data.image_size=16", "views=cifar", "encoder=small_resnet",
    "encoder.widths=[8,16]", "encoder.stem_width=8", "guide.hidden_features=16",
    "training.epochs=1", "training.progress=false",
    "loader.batch_size=8", "loader.num_workers=0", "monitor=none",
)  # fmt: skip


def picture(label, number, bits=8):
    rng = np.random.default_rng([label, number])
    y, x = np.mgrid[:20, :24]
    values = 100 + 80 * np.sin((x * (label + 1) + y) / 4) + rng.normal(0, 15, (20, 24))
    values = values.clip(0, 255)
    return Image.fromarray(
        values.astype(np.uint8) if bits == 8 else (values * 16).astype(np.uint16)
    )


def fill(root, split, count, bits=8):
    for label, name in enumerate(["ant", "bee", LATIN]):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            suffix = ("png", "jfif", "webp")[number % 3] if bits == 8 else "png"
            format = {"jfif": "JPEG"}.get(suffix)
            picture(label, number + 100 * len(split), bits).save(
                folder / f"{number}.{suffix}", format
            )


def spoil(folder):
    """Five images that cannot be read, one with a name and one with metadata that cannot."""
    (folder / "gone.png").symlink_to("/nowhere/1.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:50])
    os.mkfifo(folder / "pipe.png")
    picture(0, 1).save(folder / f"{LATIN}.png")
    entry = struct.pack("<HHIHHHHII", 0x112, 3, 1, 6, 0, 0x132, 5, 1, 38)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entry + bytes(4) + struct.pack("<II", 1, 1)
    picture(0, 2).save(folder / "phone.jpg", exif=exif)
    (folder / "@eaDir" / "0.png").mkdir(parents=True)
    picture(1, 1).save(folder / "@eaDir" / "0.png" / "SYNOPHOTO_THUMB_M.jpg")
    (folder / "up").symlink_to("..")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder, and a run on it; tests must not change them."""
    root = tmp_path_factory.mktemp("found") / os.fsdecode(b"donn\xe9es")
    fill(root, "Training", 12)
    fill(root, "Testing", 11)
    for split in ("Training", "Testing"):
        spoil(root / split / "ant")
        (root / split / "__MACOSX").mkdir()
        (root / split / "no images").mkdir()
    run = root.parent / "run"
    os.symlink(root, root.parent / "data")  # Hydra's own files are text
    assert run_cli("train", *TRAIN, f"data.root={root.parent / 'data'}", f"run_dir={run}") == 0
    return root, run


def test_training_says_what_it_understood_and_skipped(found):
    log = (found[1] / "train.log").read_text(encoding="utf-8")
    assert "train: 43 images of 3 classes (ant 19, bee 12, caf\\xe9 12), in Training" in log
    assert "test: 40 images of 3 classes (ant 18, bee 11, caf\\xe9 11), in Testing" in log
    assert "passed over: 4 system folders, 2 links to folders searched already" in log
    assert "skipped corrupt image" in log


def test_evaluation_leaves_out_what_cannot_be_read(found, caplog):
    assert run_cli("evaluate", found[1], "--protocols", "knn-v1", "linear-v1") == 0
    assert caplog.text.count("skipped corrupt image") == 10
    result = Result.read(found[1] / "results" / "knn-v1-encoder.json")
    assert (result.dataset["train"], result.dataset["test"]) == (38, 35)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embedding_names_what_it_read(found, tmp_path, suffix, caplog):
    out = tmp_path / f"e.{suffix}"
    assert run_cli("embed", found[1], found[0] / "Training" / "ant", "--out", out) == 0
    if suffix == "npz":
        names = np.load(out)["name"].tolist()
        assert f"{LATIN}.png" in names
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        names = parquet.read_table(out)["name"].to_pylist()
        assert "caf\\xe9.png" in names
    assert len(names) == 14
    assert "phone.jpg" in names
    assert caplog.text.count("skipped corrupt image") == 5


def test_other_commands(found):
    root, run = found
    assert run_cli("ood", run, "--out", root / "Testing" / LATIN, "--views", 2) == 2  # its own data
    other = root.parent / LATIN
    other.mkdir()
    for number in range(9):
        Image.fromarray(np.full((20, 20), 25 * number, np.uint8)).save(other / f"{number}.png")
    spoil(other)
    assert run_cli("ood", run, "--out", other, "--views", 2) == 0
    assert (run / "results" / "ood-v1-caf\\xe9.json").is_file()
    assert run_cli("diagnose", run, "--checks", "latent", "--images", 30) == 0
    assert run_cli("report", run) == 0
    assert "caf\\xe9" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_uncertainty(found):
    assert run_cli("uncertainty", found[1], "--images", 30) == 0


def test_more_damage_than_the_limit_is_an_error_of_one_line(found, capsys):
    images = found[0] / "Training" / "ant"
    assert run_cli("embed", found[1], images, "--max-corrupt", 2, "--out", found[1] / "e.npz") == 2
    assert "3 corrupt images in" in capsys.readouterr().err


def test_one_image_as_an_array(found, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    np.save(tmp_path / "one.npy", image)
    assert run_cli("embed", found[1], tmp_path / "one.npy", "--out", tmp_path / "e.npz") == 0
    written = np.load(tmp_path / "e.npz")
    assert (written["embedding"].shape, written["name"].tolist()) == ((1, 16), ["one.npy[0]"])
    run = vje_pyro.load(found[1])
    for one in (image, Image.fromarray(image), image[None]):
        assert np.allclose(run.embed(one), written["embedding"], atol=1e-5)


def test_the_value_range_goes_with_the_run(tmp_path, capsys):
    fill(tmp_path / "data", "train", 12, bits=12)
    run = tmp_path / "run"
    assert run_cli("train", *TRAIN, f"data.root={tmp_path / 'data'}", f"run_dir={run}") == 0
    assert "0 is black, 4095 is white" in (run / "train.log").read_text()
    dark = np.full((20, 20), 300, np.uint16)  # alone, a set of 10 bits
    (tmp_path / "dark").mkdir()
    Image.fromarray(dark).save(tmp_path / "dark" / "0.png")
    np.save(tmp_path / "dark.npy", dark)
    loaded = vje_pyro.load(run)
    assert loaded.source.value_range == (0, 4095)
    expected = loaded.embed(np.full((1, 20, 20, 1), 300 >> 4, np.uint8))
    for name in ("dark", "dark/0.png", "dark.npy"):
        out = tmp_path / f"{name.replace('/', '-')}-out.npz"
        assert run_cli("embed", run, tmp_path / name, "--out", out) == 0
        assert np.allclose(np.load(out)["embedding"], expected, atol=1e-5), name
    assert np.allclose(loaded.embed(dark), expected, atol=1e-5)
