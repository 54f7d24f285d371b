"""A new user's first commands, from a clean clone to a gallery of outliers.

    python -m pytest -m slow tests/campaigns/first_hour.py -s

The repository is cloned, and every command runs from the clone in a process of its own. Packages
are those of this environment. Wall and CPU times go to ``docs/results/first_hour.json``.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import make_pictures

from vje_pyro.provenance import git_commit

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "docs/results/first_hour.json"
COMMANDS = {
    "help": ("--help",),
    "train": ("train", "data.root=pictures", "run_dir=runs/pictures"),
    "outliers": ("outliers", "runs/pictures", "pictures"),
    "neighbours": ("neighbours", "runs/pictures", "pictures"),
}
"""As on the page docs/tutorials/my_folder.md."""

NOISE = 5


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_from_a_clone_to_a_gallery_of_outliers(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", clone], check=True)
    make_pictures(tmp_path / "pictures", 200, NOISE, (64, 200))
    environment = os.environ | {"PYTHONPATH": str(clone)}
    times = {}
    for name, words in COMMANDS.items():
        start, used = time.perf_counter(), cpu_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "vje_pyro", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        wall, cpu = time.perf_counter() - start, cpu_seconds() - used
        times[name] = {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}
    results = tmp_path / "runs" / "pictures" / "results"
    with (results / "outliers-pictures.csv").open(encoding="utf-8") as file:
        order = [row["image"] for row in csv.DictReader(file)]
    places = [place for place, name in enumerate(order, start=1) if name.startswith("noise")]
    for page in ("outliers", "neighbours"):
        assert "data:image/webp" in (results / f"{page}-pictures.html").read_text(encoding="utf-8")
    result = {
        "name": "first_hour", "pictures": len(order), "noise": NOISE, "places_of_noise": places,
        "times": times, "cores": len(os.sched_getaffinity(0)), "commit": git_commit(),
    }  # fmt: skip
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    assert max(places) <= len(order) // 10
