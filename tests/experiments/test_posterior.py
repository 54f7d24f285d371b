"""``vje posterior``: the joint posterior of a run is fitted, kept and checked."""

import json
import shutil

import pytest
import torch
from commandline import run_cli

import vje_pyro
from vje_pyro import joint_posterior
from vje_pyro.errors import CheckpointError

LATENTS = 4


@pytest.fixture(scope="module")
def fitted(run_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("posterior") / "run"
    shutil.copytree(run_dir, path)
    words = ("--images", "40", "--latents", str(LATENTS), "--steps", "2", "--seed", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_posterior, "VIEWS", (1, 2))
        patch.setattr(joint_posterior, "_IMPORTANCE_DRAWS", 100)
        assert run_cli("posterior", str(path), *words) == 0
    return path


def test_the_posterior_is_kept_in_the_run_and_narrows_with_views(fitted):
    run = vje_pyro.load(fitted)
    images = torch.rand(6, 1, 8, 8)
    one, many = (run.joint_posterior(images, num_views=k) for k in (1, 8))
    assert (many.batch_shape, many.event_shape) == ((6,), (LATENTS,))
    assert many.variance.mean() < one.variance.mean()
    again = run.joint_posterior(images, num_views=8)
    assert torch.equal(many.mean, again.mean)
    assert not torch.equal(many.mean, run.joint_posterior(images, num_views=8, seed=1).mean)


def test_the_result_file_holds_each_figure_for_each_number_of_views(fitted):
    result = json.loads((fitted / "results" / "many-views-v2.json").read_text())
    of_views = {
        "angle-50", "angle-80", "angle-95", "radius-50", "radius-80", "radius-95", "variance",
        "simulated-variance", "k-hat", "elbo-gap", "rank-alarms",
    }  # fmt: skip
    assert set(result["figures"]) == {f"views-{k}_{name}" for k in (1, 2) for name in of_views}
    assert result["settings"]["num_latents"] == LATENTS
    assert result["dataset"]["split"] == "test"


def test_a_fit_is_made_again_by_its_seed(fitted):
    run = vje_pyro.load(fitted)
    before = run.joint_posterior_model.state_dict()
    again = joint_posterior.fit_joint_posterior(run, 40, LATENTS, seed=1, num_steps=2)
    assert all(torch.equal(before[name], value) for name, value in again.state_dict().items())
    assert run.joint_posterior_model.log_df == again.log_df


def test_a_run_without_one_says_how_to_fit_it(run_dir):
    with pytest.raises(CheckpointError, match="fit it with 'vje posterior"):
        vje_pyro.load(run_dir).joint_posterior(torch.rand(2, 1, 8, 8))


def test_a_file_that_holds_no_joint_posterior_is_refused(fitted, run_dir, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run_dir, path)
    checkpoints = path / "checkpoints"
    shutil.copy(checkpoints / "last.safetensors", checkpoints / "joint_posterior.safetensors")
    with pytest.raises(CheckpointError, match="holds no joint posterior"):
        _ = vje_pyro.load(path).joint_posterior_model


def test_too_few_latents_are_one_line_on_the_command_line(fitted, capsys):
    assert run_cli("posterior", str(fitted), "--latents", "2") == 2
    assert "num_latents must be at least 3" in capsys.readouterr().err


def test_no_views_are_refused(fitted):
    with pytest.raises(ValueError, match="num_views must be at least 1"):
        vje_pyro.load(fitted).joint_posterior(torch.rand(2, 1, 8, 8), num_views=0)


def test_uncertainty_has_the_distance_in_what_the_views_share(fitted, tmp_path):
    words = ("uncertainty", str(fitted), "--results", str(tmp_path))
    assert run_cli(*words) in (0, 3)
    figures = json.loads((tmp_path / "uncertainty-v2.json").read_text())["figures"]
    assert figures["aurc_knn_joint-knn"]["value"] != figures["aurc_knn_knn"]["value"]
