"""The built wheel, installed into a fresh environment, works outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from commandline import TINY

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__")


def run(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=NOT_SOURCES)
    build = ("wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", folder, "./source")
    run(sys.executable, "-m", "pip", *build, cwd=folder)
    return next(folder.glob("*.whl"))


def test_everything_is_inside_one_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"vje_pyro"}
    assert {
        "vje_pyro/models/vje.py",
        "vje_pyro/guides/diagonal_normal.py",
        "vje_pyro/experiments/conf/experiment/digits.yaml",
        "vje_pyro/report/report.html",
        "vje_pyro/report/page.js",
        "vje_pyro/py.typed",
    } <= set(names)


def test_it_imports_and_trains_in_a_fresh_environment(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    install = ("install", "--no-deps", "--quiet", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    )
    # The dependencies are this environment's; its own .pth files, and with them an editable
    # installation of the repository, are not followed.
    (Path(purelib.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import vje_pyro.models as m; print(m.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))
    absent = (
        "import importlib.util as u; print(*map(u.find_spec, ['models', 'guides', 'experiments']))"
    )
    assert run(python, "-c", absent, cwd=tmp_path).split() == ["None"] * 3
    vje = tmp_path / "env" / "bin" / "vje"
    run(vje, "train", *TINY, "training.max_steps=3", "run_dir=run", cwd=tmp_path)
    assert "knn-v1" in run(vje, "evaluate", "run", "--protocols", "knn-v1", cwd=tmp_path)
