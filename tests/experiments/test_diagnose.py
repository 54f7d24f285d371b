"""``vje diagnose`` on a run of seconds, and what the report shows of it."""

import json
from functools import reduce

import numpy as np
import pytest
from commandline import TINY, run_cli

import vje_pyro
from studies.evaluations import CHECKS
from studies.posterior_table import POSTERIOR
from vje_pyro import names
from vje_pyro.diagnostics import load_check, load_netcdf
from vje_pyro.diagnostics.arviz_adapter import read_group
from vje_pyro.errors import VJEError
from vje_pyro.inference import Joint
from vje_pyro.report.diagnostics import section
from vje_pyro.verbs import diagnose

SLOW = [name for name in names.CHECKS if load_check(name).slow]
QUICK = [name for name in names.CHECKS if name not in SLOW]

OUTSIDE = """
from dataclasses import dataclass

from torch import Tensor

from vje_pyro.diagnostics import Check, Shown, Verdict
from vje_pyro.diagnostics.plots import Histogram


@dataclass(frozen=True)
class Norms:
    norms: Tensor

    @property
    def verdict(self):
        return Verdict(True, "an embedding of norm <zero> has no direction.")

    def summary(self):
        return {"median": self.norms.median().item()}


def show(figures, arrays):
    plot = Histogram("Norms", "One value a view.", "norm of the embedding", arrays["norms"])
    return Shown([("median norm", f"{figures['median']:.3f}")], [plot])


CHECK = Check(
    "Have all embeddings a direction?",
    "A direction needs a norm.",
    lambda data: Norms(data.heldout.embeddings.norm(dim=-1)),
    show,
)
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("diagnose") / "run"
    assert run_cli("train", *TINY, f"run_dir={path}") == 0
    arguments = ["--quick", "--images", 24, "--train-images", 40]
    assert run_cli("diagnose", path, *arguments) == 0
    return path


def test_every_check_has_its_figures(run_dir):
    content = json.loads((run_dir / "diagnostics" / "diagnostics.json").read_text())
    assert list(content["checks"]) == QUICK
    assert content["images"] == {"heldout": 24, "train": 40}
    assert content["commit"]
    assert content["config"]["seed"] == 0
    checks = content["checks"]
    assert checks["importance"]["num_data"] == 48
    assert checks["temperature"]["heldout"]["coverage_after"]["0.5"]["n"] == 24
    assert checks["sbc_guide"]["sampler"] == "guide"
    assert content["posterior"] == "of one view"
    judged = {name for name, check in checks.items() if "verdict" in check}
    assert judged == {"importance", "blocks", "latent", "sbc_guide", "features", "prior_features"}
    assert all(set(checks[name]["verdict"]) == {"flagged", "text"} for name in judged)


def test_verdicts_are_told_in_words(run_dir, tmp_path, caplog):
    caplog.set_level("INFO", logger=diagnose.logger.name)
    content = diagnose.diagnose(
        vje_pyro.load(run_dir), ["latent"], num_images=12, num_train=12, folder=tmp_path / "out"
    )
    verdict = content["checks"]["latent"]["verdict"]
    word = "FOUND" if verdict["flagged"] else "passed"
    assert f"{word}: {verdict['text']}" in caplog.text


def test_a_joint_objective_has_its_posterior_of_all_views_judged(run_dir, tmp_path):
    run = vje_pyro.load(run_dir)
    run.method.objective = Joint()
    content = diagnose.diagnose(
        run, ["importance", "features"], num_images=12, num_train=12, folder=tmp_path / "out"
    )
    assert content["posterior"] == "of all views"
    assert content["checks"]["importance"]["num_data"] == 12
    assert content["checks"]["features"]["num_images"] == 12
    z = read_group(load_netcdf(tmp_path / "out" / "inference.nc"), "posterior")["z"]
    assert z.shape[-2:] == (12, 16)


def test_too_few_images_leave_a_check_out_by_name(run_dir, tmp_path, capsys):
    arguments = ["--checks", "features", "latent", "--images", 9, "--train-images", 9]
    assert run_cli("diagnose", run_dir, *arguments, "--out", tmp_path / "out") == 3
    assert "a test of ranks needs 10 images or more, got 9" in capsys.readouterr().err


def test_the_table_of_the_posterior_finds_its_figures(run_dir):
    content = json.loads((run_dir / "diagnostics" / "diagnostics.json").read_text())
    for where in POSTERIOR.values():
        assert reduce(lambda part, key: part[key], where, content["checks"]) is not None
    assert set(CHECKS) == {check for check, *_ in POSTERIOR.values()}


def test_the_draws_are_there_for_arviz(run_dir):
    posterior = read_group(load_netcdf(run_dir / "diagnostics" / "inference.nc"), "posterior")
    assert posterior["z"].shape[-3:] == (24, 2, 16)


def test_the_report_shows_them(run_dir):
    shown = section(run_dir)
    assert shown["missing"] == ""
    content = json.loads((run_dir / "diagnostics" / "diagnostics.json").read_text())
    for block in shown["blocks"]:
        assert block["verdict"] == content["checks"][block["name"]].get("verdict")
    titles = [block["title"] for block in shown["blocks"]]
    assert titles == [load_check(name).question for name in QUICK]
    plots = [plot for block in shown["blocks"] for _, plot, _ in block["panels"]]
    assert all("<svg" in plot for plot in plots)
    assert run_cli("report", run_dir) == 0
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "Pareto k-hat" in page
    assert "Coverage of central intervals" in page


def test_a_check_of_ones_own_is_one_file_and_one_row(run_dir, tmp_path, monkeypatch):
    (tmp_path / "my_check.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(names.CHECKS, "norms", "my_check:CHECK")
    run, out = vje_pyro.load(run_dir), tmp_path / "run" / "diagnostics"
    content = diagnose.diagnose(run, ["norms"], num_images=12, num_train=12, folder=out)
    assert content["checks"]["norms"]["verdict"]["flagged"]
    (block,) = section(tmp_path / "run")["blocks"]
    assert block["title"] == "Have all embeddings a direction?"
    assert block["rows"] == [("median norm", f"{content['checks']['norms']['median']:.3f}")]
    ((title, plot, caption),) = block["panels"]
    assert (title, caption) == ("Norms", "One value a view.")
    assert "Histogram of norm of the embedding" in plot
    # Without its row, the report shows what it found and imports nothing that the file names.
    monkeypatch.delitem(names.CHECKS, "norms")
    (block,) = section(tmp_path / "run")["blocks"]
    assert block["verdict"]["text"] == "an embedding of norm <zero> has no direction."
    assert block["panels"] == ()


def test_a_run_that_was_not_checked_says_so(tmp_path):
    assert section(tmp_path) == {"missing": "", "blocks": []}


@pytest.mark.parametrize("damage", ["{", '{"schema": "other", "schema_version": 1}'])
def test_damaged_files_are_named_and_the_report_goes_on(tmp_path, damage):
    folder = tmp_path / "diagnostics"
    folder.mkdir()
    (folder / "diagnostics.json").write_text(damage)
    np.savez(folder / "arrays.npz")
    assert "again" in section(tmp_path)["missing"]


def test_bad_requests_are_refused(run_dir, capsys):
    run = vje_pyro.load(run_dir)
    with pytest.raises(VJEError, match=r"unknown checks \['magic'\]; choose from"):
        diagnose.diagnose(run, ["magic"])
    with pytest.raises(VJEError, match="needs two images or more, got 1 and 40"):
        diagnose.diagnose(run, ["latent"], num_images=1, num_train=40)
    run.method = run.method.encoder
    with pytest.raises(VJEError, match="SmallResNet cannot be diagnosed: it is no EmbeddingModel"):
        diagnose.diagnose(run, ["latent"])
    assert run_cli("diagnose", run_dir / "nowhere") == 2
    assert "no run at" in capsys.readouterr().err


@pytest.mark.slow
def test_the_checks_of_minutes_too(run_dir):
    content = diagnose.diagnose(vje_pyro.load(run_dir), SLOW, num_images=24, num_train=40)
    assert list(content["checks"]) == SLOW
    assert content["checks"]["nuts"]["num_data"] == 8
    assert content["checks"]["c2st"]["num_images"] == 8
    titles = [block["title"] for block in section(run_dir)["blocks"]]
    assert "Can a classifier separate the guide from NUTS?" in titles
    assert set(content["checks"]["comparison"]) >= {"ProjectedStudentT", "VonMisesFisher"}
