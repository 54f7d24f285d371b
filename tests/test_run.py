"""A loaded run: embeddings, posteriors, likelihoods; and what loading refuses."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import vje_pyro
from vje_pyro import Representation
from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.method import Method
from vje_pyro.training.checkpoint import Checkpoint, save_checkpoint
from vje_pyro.training.run_json import write_run_json

PROGRAMS = {
    "encoder": {"_target_": "vje_pyro.encoders.SmallResNet", "in_channels": 1, "widths": [8, 16]},
    "guide": {"_target_": "vje_pyro.guides.DiagonalNormal", "_partial_": True,
              "hidden_features": 8},
    "direction": {"_target_": "vje_pyro.distributions.SphericalStudentT", "_partial_": True,
                  "df": 1.0},
    "radius": {"_target_": "vje_pyro.distributions.RadialStudentT", "_partial_": True,
               "scale": 1.0, "df": 1.0},
}  # fmt: skip
CONFIG = {
    "data": {"_target_": "vje_pyro.data.Digits"},
    "views": {"_target_": "vje_pyro.data.Views", "crop_scale": [0.4, 1.0]},
    "method": {"_target_": "vje_pyro.models.VJE", **PROGRAMS},
}


def write_run(path, config=CONFIG):
    from vje_pyro.building import build

    torch.manual_seed(0)
    method = build(CONFIG["method"])
    (path / "checkpoints").mkdir(parents=True)
    save_checkpoint(
        Checkpoint(step=0, epoch=0, model=method.state_dict()),
        path / "checkpoints" / "last.safetensors",
    )
    write_run_json(path, config, seed=0)
    return path


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def run(run_path):
    return vje_pyro.load(run_path)


@pytest.fixture(scope="module")
def digits():
    return (load_digits().images[:40] / 16).astype(np.float32)


def test_images_of_any_form_give_the_same_embedding(run, digits):
    uint8 = np.round(digits * 255).astype(np.uint8)
    expected = run.embed(uint8)
    assert expected.shape == (40, 16)
    for form in (
        digits,
        digits[..., None],
        torch.from_numpy(digits)[:, None],
        digits.reshape(40, 64),
    ):
        torch.testing.assert_close(run.embed(form), expected)


def test_many_images_are_embedded_in_batches(run, digits):
    many = np.tile(digits, (30, 1, 1))
    torch.testing.assert_close(run.embed(many)[:40], run.embed(digits), rtol=1e-4, atol=1e-5)


def test_posterior_is_a_pyro_distribution(run, digits):
    q = run.posterior(digits)
    assert isinstance(q, TorchDistributionMixin)
    assert (q.batch_shape, q.event_shape) == ((40,), (16,))
    expected = run.method.posterior(run.normalize(run._uint8(digits)))
    torch.testing.assert_close(q.mean, expected.mean)
    torch.testing.assert_close(q.stddev, expected.stddev)


def test_log_likelihood_is_per_datum_in_nats(run, digits):
    torch.manual_seed(0)
    terms = run.log_likelihood(digits, digits[::-1].copy(), num_samples=8)
    assert set(terms) == {"elbo", "direction", "radius", "kl"}
    assert all(v.shape == (40,) for v in terms.values())
    torch.testing.assert_close(terms["elbo"], terms["direction"] + terms["radius"] - terms["kl"])
    itself = run.log_likelihood(digits, num_samples=8)
    torch.testing.assert_close(itself["kl"], terms["kl"])  # the posteriors are the same
    assert not torch.allclose(itself["direction"], terms["direction"])
    with pytest.raises(ValueError, match="40 source images, but 3 target images"):
        run.log_likelihood(digits, digits[:3])


def test_it_is_a_scikit_learn_transformer(run, digits):
    labels = load_digits().target[:40]
    pipeline = make_pipeline(run, LogisticRegression(max_iter=1000)).fit(digits, labels)
    assert pipeline.predict(digits).shape == (40,)
    assert run.fit(digits) is run
    assert run.transform(digits).dtype == np.float32
    assert set(run.get_params()) == {"run", "checkpoint", "device", "trust", "data_root"}


def test_whitened_embeddings_of_a_run_are_white_within_images(run, digits):
    whitened = run.whitened(num_images=200)
    x = whitened[-1].transform(run.embed_split("train", 200, 4))
    differences = (x - x.mean(0)).flatten(0, 1)
    within = differences.T @ differences / (3 * 200)
    torch.testing.assert_close(within, torch.eye(x.shape[-1]), atol=1e-3, rtol=0)
    assert torch.equal(whitened.transform(digits), whitened[-1].transform(run.embed(digits)))
    results = vje_pyro.evaluate(run, ["knn-v1"], features="whitened")
    assert [r.features for r in results] == ["whitened"]
    labels = load_digits().target[:40]
    classifier = make_pipeline(whitened, LogisticRegression(max_iter=1000)).fit(digits, labels)
    assert classifier.predict(digits).shape == (40,)


def test_a_method_without_posterior_says_so(run, digits, monkeypatch):
    class Plain(Method):
        loss = None

    monkeypatch.setattr(run, "method", Plain(run.method.encoder))
    with pytest.raises(VJEError, match="Plain has no posterior: it is not probabilistic"):
        run.posterior(digits)
    with pytest.raises(VJEError, match="it is not probabilistic"):
        run.log_likelihood(digits)


def test_missing_runs_and_checkpoints_are_named(run_path, tmp_path):
    with pytest.raises(CheckpointError, match=r"no run at .*nowhere.*vje train printed"):
        vje_pyro.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no checkpoint 'best' in .*; it has \['last'\]"):
        vje_pyro.load(run_path, checkpoint="best")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        vje_pyro.load(tmp_path)


def test_a_malicious_pickle_is_never_executed(run_path, tmp_path):
    target = tmp_path / "pwned"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {target}",)

    path = tmp_path / "run"
    shutil.copytree(run_path, path)
    (path / "checkpoints" / "last.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        vje_pyro.load(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "target", ["os.system", "vje_pyro.run.json.loads", "vje_pyro.run.np.load", "vje_pyrox.evil"]
)
def test_code_of_a_stranger_is_never_called(run_path, tmp_path, target):
    config = json.loads(json.dumps(CONFIG))
    config["method"]["encoder"] = {"_target_": target, "_args_": ["touch pwned"]}
    with pytest.raises(CheckpointError, match=f"names '{target}'"):
        vje_pyro.load(write_run(tmp_path / "run", config))


def test_code_that_the_user_vouches_for_is_used(tmp_path, monkeypatch):
    (tmp_path / "my_encoders.py").write_text(
        "from vje_pyro.encoders import SmallResNet\nclass Mine(SmallResNet):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads(json.dumps(CONFIG))
    config["method"]["encoder"]["_target_"] = "my_encoders.Mine"
    path = write_run(tmp_path / "run", config)
    with pytest.raises(CheckpointError, match=r"trust=\('my_encoders',\)"):
        vje_pyro.load(path)
    assert type(vje_pyro.load(path, trust=["my_encoders"]).method.encoder).__name__ == "Mine"
    config["method"]["encoder"]["_target_"] = "my_encoders.Gone"
    other = write_run(tmp_path / "other", config)
    with pytest.raises(CheckpointError, match="cannot be found"):
        vje_pyro.load(other, trust=["my_encoders"])


def test_the_package_itself_is_light():
    code = "import sys, vje_pyro, vje_pyro.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert vje_pyro.load is vje_pyro.run.load
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        vje_pyro.lode  # noqa: B018


CIFAR = {"_target_": "vje_pyro.data.CIFAR10", "root": "gone", "image_size": 16}


@pytest.mark.parametrize(
    "data", [CIFAR, {"_target_": "vje_pyro.data.OneClass", "source": CIFAR, "label": 3}]
)
def test_the_data_are_read_where_they_are_now(tmp_path, data):
    path = write_run(tmp_path / "run", {**CONFIG, "data": data})
    source = vje_pyro.load(path, data_root=tmp_path / "moved").source
    assert getattr(source, "source", source).root == tmp_path / "moved"


def test_embedded_data_cannot_be_moved(run_path, tmp_path):
    with pytest.raises(VJEError, match=r"data are not read from a folder: .* has no root"):
        vje_pyro.load(run_path, data_root=tmp_path)


def test_a_url_of_the_data_is_given_again(tmp_path):
    pytest.importorskip("webdataset", reason="webdataset is an extra")
    data = {"_target_": "vje_pyro.data.WebDataset", "root": "pipe:touch pwned", "pretrain": "a.tar"}
    config = {**CONFIG, "data": {**data, "channels": 1}}
    path = write_run(tmp_path / "run", config)
    with pytest.raises(
        CheckpointError, match=r"data\.root is 'pipe:touch pwned', a URL.*--data-root"
    ):
        vje_pyro.load(path)
    assert vje_pyro.load(path, data_root="gs://mine").source.root == "gs://mine"


@pytest.mark.parametrize("part", ["method", "data"])
@pytest.mark.parametrize(
    "stored",
    [
        None,
        3,
        {},
        {"_target_": "torch.optim.AdamW"},
        {"_target_": "vje_pyro.training.monitors.NoMonitor"},
        {"_target_": "vje_pyro.models.VJE", "_partial_": True},
        {"_target_": "vje_pyro.data.Digits", "nonsense": 1},
    ],
)
def test_a_part_that_is_another_component_is_refused(tmp_path, part, stored):
    with pytest.raises(CheckpointError, match=f"{part} (cannot be made|makes a )"):
        vje_pyro.load(write_run(tmp_path / "run", {**CONFIG, part: stored}))


# ---------------------------------------------------------------------------- scikit-learn

APPLY = (
    "check_estimator_cloneable",
    "check_no_attributes_set_in_init", "check_get_params_invariance", "check_set_params",
    "check_estimator_repr", "check_valid_tag_types",
)  # fmt: skip
"""The checks that need no data. The others fit on points of any number of features, which are no
images (docs/how-to/pipelines.md)."""


@pytest.mark.parametrize("name", APPLY)
def test_scikit_learns_checks_pass(run, name):
    estimator = clone(run)
    getattr(estimator_checks, name)("Representation", estimator)  # raises where it fails
    assert estimator.get_params() == run.get_params()


def test_nothing_is_loaded_before_it_is_used():
    run = Representation("/no/such/run")
    assert run.get_params()["run"] == "/no/such/run"
    assert clone(run).set_params(device="cpu") is not run
    with pytest.raises(CheckpointError, match="/no/such/run"):
        _ = run.method
    with pytest.raises(ValueError, match="no parameter 'runs'"):
        run.set_params(runs="x")


def test_other_parameters_load_anew(run, tmp_path, digits):
    other = clone(run)
    before = other.transform(digits)
    other.set_params(run=tmp_path)
    with pytest.raises(CheckpointError):
        other.transform(digits)
    assert np.array_equal(other.set_params(run=run.run).transform(digits), before)


def test_features_have_names_and_tables_have_them_as_columns(run, digits):
    pandas = pytest.importorskip("pandas")
    names = [f"representation{i}" for i in range(16)]
    assert run.get_feature_names_out().tolist() == names
    table = clone(run).set_output(transform="pandas").transform(digits)
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == names
    assert np.array_equal(table.to_numpy(), run.transform(digits))
    assert isinstance(clone(clone(run).set_output(transform="pandas")).transform(digits),
                      pandas.DataFrame)  # fmt: skip
    with config_context(transform_output="pandas"):
        assert isinstance(run.transform(digits), pandas.DataFrame)
        assert isinstance(clone(run).set_output(transform="default").transform(digits), np.ndarray)
    with pytest.raises(ValueError, match="transform must be one of"):
        run.set_output(transform="excel")


def test_a_pipeline_is_searched(run, digits):
    pipeline = make_pipeline(run, LogisticRegression(max_iter=500))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2)
    search.fit(digits, load_digits().target[:40])
    assert search.best_params_["logisticregression__C"] in (0.1, 1.0)
    names = pipeline.set_output(transform="pandas")[:1].get_feature_names_out()
    assert len(names) == 16
