"""``vje evaluate``, ``embed``, ``report``, and the words around them."""

import numpy as np
import pytest
from commandline import run_cli
from PIL import Image

from vje_pyro import load
from vje_pyro.evaluation import Result


@pytest.fixture
def images(tmp_path):
    """A folder of images of mixed sizes and modes, one of them damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, (mode, size) in enumerate([("RGB", 20), ("L", 8), ("RGBA", 33), ("P", 12)]):
        pixels = rng.integers(0, 256, (size, size + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


def test_help_wraps_paragraphs_and_keeps_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    assert run_cli("ood", "--help") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "vje ood runs/digits --out noise svhn" in lines
    assert any(line.startswith("Writes RUN") and line.endswith("is then 3.") for line in lines)
    assert not any("default: ]" in line for line in lines)


def test_evaluate_writes_results_and_prints_them(run_dir, capsys):
    assert run_cli("evaluate", run_dir, "--protocols", "knn-v1", "few-label-v1") == 0
    result = Result.read(run_dir / "results" / "knn-v1-encoder.json")
    assert result.method == "VJE"
    assert result.settings["k"] == 20
    assert 0.3 < result.figures["accuracy"].value <= 1
    assert "accuracy_5" in capsys.readouterr().out
    assert run_cli("evaluate", run_dir, "--protocols", "knn-v1", "--features", "pixels") == 0
    pixels = Result.read(run_dir / "results" / "knn-v1-pixels.json")
    assert pixels.method == "pixels"
    assert pixels.figures["accuracy"].value > 0.9


def test_bayesian_heads_of_a_run_read_its_posteriors(run_dir, monkeypatch):
    monkeypatch.setattr("vje_pyro.evaluation.bayes_heads.DRAWS", 2)
    monkeypatch.setattr("vje_pyro.evaluation.few_label.LABELS_PER_CLASS", (10,))
    assert run_cli("evaluate", run_dir, "--protocols", "bayes-heads-v1") == 0
    file = run_dir / "results" / "bayes-heads-v1-encoder.json"
    figures = Result.read(file).figures
    file.unlink()
    for head in ("niw", "laplace"):
        assert figures[f"nll_{head}-points_10"].value < 1.8
        assert figures[f"accuracy_{head}-points_10"].value > 0.4
        # Two epochs leave a posterior that knows next to nothing, and does not claim to.
        assert figures[f"nll_{head}-posterior_10"].value < np.log(10) + 0.02


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_embed_writes_what_the_python_interface_gives(run_dir, images, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    out = tmp_path / f"out{suffix}"
    assert run_cli("embed", run_dir, images, "--out", out) == 0
    if suffix == ".npz":
        columns = dict(np.load(out))
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(out).to_pydict()
        columns = {name: np.array(value) for name, value in table.items()}
    assert list(columns["name"]) == ["0.png", "1.png", "2.png", "3.png"]
    assert columns["embedding"].shape == (4, 16)
    assert (columns["posterior_scale"] > 0).all()
    grey = np.asarray(Image.open(images / "1.png"))  # 8 by 9 pixels: cut and brought to size
    assert grey.shape == (8, 9)
    run = load(run_dir)
    assert np.isfinite(run.transform(grey[None, :, :8])).all()
    before = out.read_bytes()
    assert run_cli("embed", run_dir, images, "--out", out) == 2  # never overwritten
    assert out.read_bytes() == before


def test_embed_gives_up_on_too_many_damaged_files(run_dir, images, tmp_path, capfd):
    out = tmp_path / "out.npz"
    assert run_cli("embed", run_dir, images, "--out", out, "--max-corrupt", 0) == 2
    assert "broken.png" in capfd.readouterr().err
    assert not out.exists()


def test_report_is_written_where_it_is_said(run_dir, tmp_path, capsys):
    assert run_cli("report", run_dir, "--out", tmp_path / "r.html") == 0
    assert str(tmp_path / "r.html") in capsys.readouterr().out
    assert "VJE" in (tmp_path / "r.html").read_text()


def test_help_and_version(capsys):
    for arguments in ([], ["--help"], ["--version"]):
        assert run_cli(*arguments) == 0
    out = capsys.readouterr().out
    assert "Usage: vje COMMAND" in out
    assert "evaluate" in out
