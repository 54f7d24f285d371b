"""The benchmark of performance in a tiny version, and the page made from what it writes."""

import json

import performance
import performance_table
import pytest
from tables import update

from vje_pyro.atomic import write_atomic

pytest.importorskip("lightly", reason="lightly is an extra")

TINY = ("--blocks", "1", "--batch", "8", "--width", "16", "--image-sizes", "8")


def figure(value):
    return {"value": value, "low": value / 2, "high": 2 * value, "n": 2, "interval": "quartiles"}


def test_the_parts_write_figures_with_where_they_come_from(tmp_path, monkeypatch, known_times):
    monkeypatch.setattr(performance, "GROWTH", {"batch_4": (8, 16, 4), "dim_8": (8, 8, 4)})
    seconds = {"vje": 2, "lightly_simsiam": 3, "lightly_vicreg": 4, "32-true": 2, "step": 2}
    known_times(performance, seconds)
    parts = ["peers", "precision", "growth", "scoring"]
    performance.main([*parts, "--out", str(tmp_path), *TINY])
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert set(found) == {f"{part}-cpu" for part in parts}
    for content in found.values():
        assert content["settings"]["batch"] == 8
        assert content["seed"] == 0
        assert content["versions"]["torch"]
        for values in content["figures"].values():
            assert 0 <= values["low"] <= values["value"] <= values["high"]
    peers = found["peers-cpu"]["figures"]
    ratios = [peers[f"8px_{name}_to_bound"]["value"] for name in performance_table.CONTENDERS]
    assert ratios == [2, 3, 4]
    assert peers["8px_vje_speed_over_lightly_simsiam"]["value"] == 1.5
    assert found["precision-cpu"]["figures"]["8px_bfloat16_speed"]["value"] == 2
    assert found["growth-cpu"]["figures"]["dim_8_to_bound"]["value"] == 2
    shares = [v["value"] for k, v in peers.items() if k.startswith("8px_share_")]
    assert len(shares) == len(performance_table.PIECES) + 1
    assert set(found["growth-cpu"]["figures"]) == {
        "batch_4_ms_per_image", "batch_4_to_bound", "dim_8_ms_per_image", "dim_8_to_bound",
    }  # fmt: skip


def test_the_page_says_what_the_files_say(tmp_path, monkeypatch):
    monkeypatch.setattr(performance_table, "RESULTS", tmp_path)
    names = performance_table.CONTENDERS
    figures = {f"8px_{name}_to_bound": figure(1.5) for name in names}
    figures |= {f"8px_vje_speed_over_{n}": figure(3.0) for n in names if n.startswith("lightly")}
    pieces = [*performance_table.PIECES, "whole_head"]
    figures |= {f"8px_share_{piece}": figure(0.25) for piece in pieces}
    content = {"figures": figures, "settings": {"image_sizes": [8]}}
    write_atomic(tmp_path / "peers-cpu.json", json.dumps(content))
    rows = performance_table.peers_table().splitlines()
    assert rows[2] == "| 8 | VJE | 1.50 [0.75, 3.00] |  |"
    assert rows[3] == "| 8 | lightly, SimSiam | 1.50 [0.75, 3.00] | 3.00 [1.50, 6.00] |"
    assert performance_table.split_table().splitlines()[2] == "| batch | 25.0 [12.5, 50.0] |"
    svg = performance_table.plot()
    assert svg == performance_table.plot()
    assert "lightly, VICReg" in svg


def test_the_page_is_up_to_date():
    assert performance_table.main(["--check"]) == 0


def test_a_page_without_markers_is_refused():
    with pytest.raises(Exception, match="must hold one line <!-- peers:begin -->"):
        update("nothing here", "peers", "")
