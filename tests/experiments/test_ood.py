"""``vje ood`` and ``vje uncertainty`` on a short run, without and with bad input."""

import json

import numpy as np
import pytest
import torch
from commandline import run_cli

from vje_pyro import load
from vje_pyro.errors import DataError, LeftOut, VJEError
from vje_pyro.evaluation import Result
from vje_pyro.evaluation.corruptions import CORRUPTIONS
from vje_pyro.evaluation.labelled_detectors import PYTORCH_OOD
from vje_pyro.verbs.detect import detect
from vje_pyro.verbs.uncertainty import posterior_spread, uncertainty


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Noise, a hundred images of one colour each, and the digits themselves."""
    root = tmp_path_factory.mktemp("data")
    (root / "ood").mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 16, 16, 3), np.uint8)
    np.savez(root / "ood" / "noise.npz", x=noise)
    flat = np.repeat(rng.integers(0, 256, (40, 1, 1, 1), np.uint8), 64, 1).reshape(-1, 8, 8)
    np.savez(root / "ood" / "flat.npz", x=flat)
    return root


@pytest.fixture(scope="module")
def results(run_dir, sets):
    pytest.importorskip("pytorch_ood", reason="pytorch-ood is an extra")
    assert run_cli("ood", run_dir, "--ood-root", sets, "--views", 2) == 0
    files = sorted((run_dir / "results").glob("ood-v1-*.json"))
    assert [file.stem for file in files] == ["ood-v1-flat", "ood-v1-noise"]
    yield {file.stem.removeprefix("ood-v1-"): Result.read(file) for file in files}
    for file in files:
        file.unlink()


def test_results_hold_every_score(results):
    for name, count in (("noise", 60), ("flat", 40)):
        result = results[name]
        assert (result.protocol, result.dataset["out"]) == ("ood-v1", name)
        assert (result.dataset["test"], result.dataset["outliers"]) == (360, count)
        assert len(set(result.dataset["digest"].values())) == 3
        details = result.details
        assert (details["images_also_in_distribution"], details["alarm_level"]) == (0, 0.05)
        assert details["alarms"]["dose"] > 0.3
        assert details["false_alarms"]["dose"] < 0.2
        scores = {figure.split("_", 1)[1] for figure in result.figures}
        single = {"elbo", "direction", "radius", "kl", "population", "population-radius"}
        single |= {"typicality", "latent", "posterior-gaussian", "niw-latent", "dose"}
        assert scores >= single | {f"{name}-views" for name in single} | {"between"}
        assert scores >= {"knn", "mahalanobis", "niw", "probe-entropy", *PYTORCH_OOD}
        assert len(result.figures) == 3 * len(scores)
        for figure in result.figures.values():
            assert 0 <= figure.low <= figure.high <= 1
            assert figure.n == 360 + count
        knn = result.figures["auroc_knn"]
        assert knn.low < knn.value < knn.high


def test_noise_is_far_from_digits(results):
    assert results["noise"].figures["auroc_knn"].value > 0.8
    assert results["noise"].figures["fpr95_knn"].value < 0.8


def test_the_run_itself_is_no_outlier_set(run_dir, sets):
    run = load(run_dir)
    images = run.source.split("test").images[:, 0].numpy()
    np.savez(sets / "own.npz", x=images)
    (sets / "own" / "ood").mkdir(parents=True, exist_ok=True)
    (sets / "own.npz").rename(sets / "own" / "ood" / "again.npz")
    with pytest.raises(VJEError, match="again is no out-of-distribution set"):
        detect(run, ["again"], root=sets / "own")


def test_p_values_from_validation_images_need_some(run_dir, sets):
    with pytest.raises(DataError, match="train_limit=N to keep"):
        detect(load(run_dir), ["noise"], root=sets, calibrate_on="validation")


def test_uncertainty(run_dir, capsys):
    assert run_cli("uncertainty", run_dir, "--images", 40) == 0
    file = run_dir / "results" / "uncertainty-v2.json"
    result = Result.read(file)
    file.unlink()
    names = ("posterior", "knn", "mahalanobis", "probe-entropy")
    aurc = {f"aurc_{c}_{n}" for c in ("knn", "linear") for n in names}
    severity = {f"severity_{c}_{n}" for c in CORRUPTIONS for n in names}
    neighbours, crops = ({f"{what}_{n}" for n in names} for what in ("r-auroc", "crop"))
    coverage = [f"{what}-{level}" for what in ("angle", "radius") for level in (50, 80, 95)]
    of_views = ["entropy", "variance", "predicted-variance", "aurc_knn", "aurc_linear", *coverage]
    views = {f"views-{k}_{what}" for k in (1, 2, 4, 8) for what in of_views}
    found = {name for name in result.figures if not name.endswith("_r-auroc")}
    assert found == aurc | severity | neighbours | crops | {"calibration_angle"} | views
    variance = [result.figures[f"views-{k}_variance"].value for k in (1, 2, 4, 8)]
    assert variance == sorted(variance, reverse=True)
    assert all(0 <= result.figures[f"views-4_{what}"].value <= 1 for what in coverage)
    details = result.details
    assert 0.5 < details["recall_at_1"] < 1
    assert all(0 <= result.figures[n].value <= 1 for n in neighbours | crops)
    assert result.figures["crop_mahalanobis"].value > 0.6
    for name in aurc:
        classifier, figure = name.split("_")[1], result.figures[name]
        assert details[f"best_aurc_{classifier}"] <= figure.value
    assert result.figures["aurc_linear_probe-entropy"].value < details["error_linear"]
    assert all(-1 <= result.figures[n].value <= 1 for n in severity)
    assert "calibration_angle" in capsys.readouterr().out


def test_posterior_spread_is_that_of_the_method(run_dir):
    run = load(run_dir)
    split = run.source.split("test").subset(range(7))
    with torch.no_grad():
        expected = run.method.uncertainty(run.normalize(split.images))
    assert posterior_spread(run, split)["posterior"] == pytest.approx(expected.numpy(), abs=1e-6)


def test_without_labels_the_errors_are_left_out_and_the_rest_is_written(run_dir, tmp_path):
    run = load(run_dir)
    run.source.split("train").labels.fill_(-1)
    with pytest.raises(LeftOut, match=r"aurc.*no image of the train split has a label") as raised:
        uncertainty(run, num_images=10, folder=tmp_path)
    result = Result.read(tmp_path / "uncertainty-v2.json")
    assert result == raised.value.results
    assert "calibration_angle" in result.figures
    assert any(name.startswith("severity_") for name in result.figures)
    assert not any(name.startswith("aurc") for name in result.figures)
    assert "no image of the train split" in str(result.details["left_out"])


def test_results_name_no_folder_of_sets(results, sets):
    for result in results.values():
        assert str(sets) not in json.dumps(result.dataset)
