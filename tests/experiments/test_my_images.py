"""A folder of one's own: ``vje train data.root=FOLDER``, ``vje outliers``, ``vje neighbours``."""

import csv
import json
import struct
import zlib

import pytest
from commandline import run_cli
from pictures import make_pictures
from PIL import Image

from vje_pyro import load, neighbours, outliers
from vje_pyro.configuration.choosing import Pictures, choices, with_choices
from vje_pyro.errors import DataError, VJEError, WriteError

SMALL = (
    "training.epochs=2", "encoder.widths=[8,16]", "encoder.stem_width=8",
    "guide.hidden_features=16", "data.image_size=32",
)  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)>&'.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = make_pictures(tmp_path_factory.mktemp("my") / "photos", 48, 3, (32, 80))
    (folder / "picture_000.png").rename(folder / HOSTILE)
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "photos"
    assert run_cli("train", f"data.root={photos}", f"run_dir={path}", *SMALL) == 0
    return path


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_alone_is_trained_on_and_the_log_says_what_was_chosen(trained, photos):
    log = (trained / "train.log").read_text()
    config = json.loads((trained / "run.json").read_text())["config"]
    assert "chosen  loader.batch_size=8: 48 images in 4 steps or more" in log
    assert "chosen  data.in_memory=True" in log
    assert "chosen  training.epochs" not in log  # it was given, and so was the image size
    assert "steps that are left (training.epochs changes it)" in log
    assert f"next    vje outliers {trained} {photos}" in log
    assert (config["loader"]["batch_size"], config["data"]["image_size"]) == (8, 32)


def test_every_image_has_a_score_and_the_page_holds_the_ends(trained, photos):
    assert run_cli("outliers", trained, photos, "--count", 6) == 0
    found = rows(trained / "results" / "outliers-photos.csv")
    assert len(found) == 48
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    page = (trained / "results" / "outliers-photos.html").read_text()
    assert page.count("data:image/webp") == 12
    assert "mahalanobis" in page
    assert "http-equiv" in page


def test_neighbours_are_shown_with_names_that_stay_text(trained, photos, tmp_path):
    page, table = tmp_path / "near.html", tmp_path / "near.parquet"
    query = photos / HOSTILE
    assert neighbours(load(trained), photos, queries=query, k=3, out=page, table=table) == page
    text = page.read_text()
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    parquet = pytest.importorskip("pyarrow.parquet")
    found = parquet.read_table(table).to_pylist()
    assert [row["rank"] for row in found] == [1, 2, 3]
    assert found[0]["neighbour"] == HOSTILE  # it is in the folder, too
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-4)


def test_an_image_is_no_neighbour_of_itself(trained, photos, tmp_path):
    assert run_cli("neighbours", trained, photos, "--out", tmp_path / "n.html", "--k", 2) == 0
    found = rows(tmp_path / "n.csv")
    assert len(found) == 2 * 48
    assert all(row["image"] != row["neighbour"] for row in found)


@pytest.mark.parametrize(
    ("function", "options", "error", "says"),
    [
        (outliers, {"detector": "elbo"}, VJEError, "there is no score 'elbo'"),
        (outliers, {"out": "x.txt"}, VJEError, "a page must end in .html"),
        (neighbours, {"table": "x.npz"}, VJEError, "must end in one of"),
        (neighbours, {"queries": "/nowhere"}, DataError, "no such image"),
        (outliers, {"out": "/proc/none/x.html"}, WriteError, "/proc/none"),
    ],
)
def test_bad_options_are_named(trained, photos, function, options, error, says):
    with pytest.raises(error, match=says):
        function(load(trained), photos, **options)


def huge(path):
    """A picture of 30,000 pixels a side, by its header."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
                     + chunk(b"IEND", b""))  # fmt: skip


def test_huge_pictures_are_named_and_long_ones_read(trained, tmp_path, capsys):
    make_pictures(tmp_path, 6, 0, (32, 40))
    huge(tmp_path / "huge.png")
    Image.new("RGB", (30_000, 8), "red").save(tmp_path / "long.png")
    found = outliers(load(trained), tmp_path, out=tmp_path / "o.html")
    assert "long.png" in found.names
    assert "huge.png" not in found.names
    assert len(found.names) == 7


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (None, "set data.root=FOLDER"),
        (0, "no image in"),
        (1, "1 image in"),
        (4, "needs at least 5"),
    ],
)
def test_too_few_pictures_are_named_with_the_key(tmp_path, capsys, count, says):
    folder = tmp_path / "few"
    if count is not None:
        make_pictures(folder, count, 0, (32, 40))
        (folder / "notes.txt").write_text("x")
    assert run_cli("train", f"data.root={folder}", f"run_dir={tmp_path / 'run'}") == 2
    error = capsys.readouterr().err
    assert says in error
    assert "data.root=FOLDER" in error
    assert not (tmp_path / "run").exists()


def test_five_pictures_are_enough(tmp_path):
    make_pictures(tmp_path / "five", 5, 1, (32, 40))
    run = tmp_path / "run"
    assert run_cli("train", f"data.root={tmp_path / 'five'}", f"run_dir={run}", *SMALL) == 0
    assert run_cli("outliers", run, tmp_path / "five") == 0


def test_a_run_directory_that_cannot_be_written_is_named(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_cli("train", f"data.root={photos}", f"run_dir={tmp_path / 'file' / 'run'}") == 2
    assert "Choose a directory that is writable" in capsys.readouterr().err


def test_what_the_user_gives_is_not_chosen(photos):
    words = with_choices([f"data.root={photos}", "views=digits", "encoder.widths=[8]"])
    keys = {word.split("=")[0] for word in words[4:]}
    assert words[0] == "experiment=my_images"
    assert {"views", "encoder", "encoder.widths"}.isdisjoint(keys)
    assert {"data.image_size", "training.epochs", "encoder.stem_width", "chosen"} <= keys
    for others in (["experiment=digits"], ["data=digits", "seed=1"], []):
        assert with_choices(others) == others


def test_folders_are_not_swept(photos):
    with pytest.raises(VJEError, match="chooses for one folder"):
        with_choices(["-m", f"data.root='{photos}','{photos}'"])


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        ((200, 480, 0, 2, False), {"loader.batch_size": 32, "training.epochs": 120}),
        ((200_000, 480, 0, 2, False), {"training.epochs": 5, "encoder.widths": [64, 128, 256]}),
        ((200_000, 480, 0, 16, True), {"data.image_size": 224, "views": "imagenet",
                                       "encoder": "resnet18", "loader.batch_size": 256}),
        ((1000, 20, 10, 2, False), {"data.image_size": 32, "data.test_fraction": 0.2}),
    ],
)  # fmt: skip
def test_choices_follow_the_pictures_and_the_machine(pictures, expected):
    from vje_pyro.configuration.choosing import _image_size

    given = Pictures(*pictures)
    chosen = {choice.key: choice.value for choice in choices(given, _image_size(given))}
    assert expected.items() <= chosen.items()
    assert ("data.in_memory" in chosen) == (not given.cuda and given.count <= 5000)
