import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vje_pyro.diagnostics import arviz_adapter, export
from vje_pyro.diagnostics.arviz_adapter import read_group
from vje_pyro.diagnostics.export import load_netcdf, save_netcdf, to_arviz
from vje_pyro.errors import VJEError, WriteError
from vje_pyro.guides import DiagonalNormal

S = 30


@pytest.fixture(scope="module")
def data(pairs):
    return to_arviz(pairs, S, seed=4)


def group(data, name):
    return {k: torch.as_tensor(v) for k, v in read_group(data, name).items()}


def test_groups_variables_and_dimensions(data, pairs):
    draws = ("chain", "draw", "datum", "view")
    expected = {
        "posterior": {"z": (*draws, "dim")},
        "posterior_predictive": {"direction": (*draws, "dim"), "radius": draws, "angle": draws},
        "prior": {"z": (*draws, "dim")},
        "prior_predictive": {"radius": draws, "angle": draws},
        "log_likelihood": {"direction": draws, "radius": draws},
        "sample_stats": {"lp": draws, "log_weight": draws, "elbo": ("datum", "view")},
        "observed_data": {
            "direction": ("datum", "view", "dim"),
            "radius": ("datum", "view"),
            "angle": ("datum", "view"),
        },
        "constant_data": {
            "source": ("datum", "view", "dim"),
            "scale": ("datum", "view", "dim"),
            "label": ("datum",),
            "index": ("datum",),
            "class_size": ("class",),
        },
    }
    assert set(arviz_adapter.group_names(data)) == expected.keys()
    for name, variables in expected.items():
        assert {str(k): v.dims for k, v in data[name].data_vars.items()} == variables
    assert data["posterior"]["z"].shape == (1, S, len(pairs), 2, pairs.num_features)
    assert list(data["constant_data"]["class"].values) == ["zero", "one", "two"]
    assert read_group(data, "constant_data")["class_size"].tolist() == [14, 13, 13]


def test_every_log_density_is_the_formula_written_by_hand(data, pairs):
    """Signs and units: nats, positive where likely, the source's latent and the other's target."""
    z = group(data, "posterior")["z"][0].double()
    method, dim = pairs.method, pairs.num_features
    source, target = (
        x.double().transpose(0, 1) for x in (pairs.embeddings, pairs.embeddings.flip(0))
    )
    posterior, scale = method.infer(source.float().reshape(-1, dim))
    mean, stddev, scale = (
        x.double().view(-1, 2, dim) for x in (posterior.mean, posterior.stddev, scale)
    )
    u, r = normalize(target, dim=-1), target.norm(dim=-1)
    m, tau, nu, d = normalize(z, dim=-1), scale / math.sqrt(dim), 1.0, dim - 1
    c = (u * m).sum(-1)
    quadratic = 2 / (1 + c) * (((u - c[..., None] * m) / tau) ** 2).sum(-1)
    direction = (
        math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
        - tau.log().sum(-1) + 0.5 * (m * tau).square().sum(-1).log()
        - (nu + d) / 2 * torch.log1p(quadratic / nu)
    )  # fmt: skip
    radius = -math.log(math.pi) - torch.log1p((r - z.norm(dim=-1)).square())
    prior = -0.5 * z.square().sum(-1) - dim / 2 * math.log(2 * math.pi)
    noise = (z - mean) / stddev
    guide = (-0.5 * noise.square() - stddev.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    tolerance = {"rtol": 1e-4, "atol": 2e-3}
    likelihood, stats = group(data, "log_likelihood"), group(data, "sample_stats")
    torch.testing.assert_close(likelihood["direction"][0].double(), direction, **tolerance)
    torch.testing.assert_close(likelihood["radius"][0].double(), radius, **tolerance)
    joint = prior + direction + radius
    torch.testing.assert_close(stats["lp"][0], joint, **tolerance)
    torch.testing.assert_close(stats["log_weight"][0], joint - guide, **tolerance)
    torch.testing.assert_close(stats["elbo"], (joint - guide).mean(0), **tolerance)


def test_observed_and_constant_data_are_those_of_the_pairs(data, pairs):
    observed, constant = group(data, "observed_data"), group(data, "constant_data")
    for view in (0, 1):
        target = pairs.embeddings[1 - view]
        torch.testing.assert_close(observed["radius"][:, view], target.norm(dim=-1))
        torch.testing.assert_close(observed["direction"][:, view], normalize(target, dim=-1))
        torch.testing.assert_close(constant["source"][:, view], pairs.embeddings[view])
    assert torch.equal(constant["label"], pairs.labels)
    assert torch.equal(constant["index"], pairs.indices)


def test_the_file_holds_it_all(data, tmp_path):
    path = save_netcdf(data, tmp_path / "new" / "inference.nc")
    assert [p.name for p in path.parent.iterdir()] == ["inference.nc"]
    back = load_netcdf(path)
    assert set(arviz_adapter.group_names(back)) == set(arviz_adapter.group_names(data))
    for name in arviz_adapter.group_names(data):
        for key, values in read_group(data, name).items():
            np.testing.assert_array_equal(read_group(back, name)[key], values)
            assert back[name][key].dims == data[name][key].dims
    assert arviz_adapter.read_attributes(back) == arviz_adapter.read_attributes(data)


def test_attributes_say_where_it_comes_from(data):
    attributes = arviz_adapter.read_attributes(data)
    assert attributes["schema"] == "vje-pyro-inference"
    assert attributes["inference_library"] == "vje-pyro"
    assert attributes["method"] == "VJE"
    assert attributes["guide"] == "DiagonalNormal"
    assert attributes["seed"] == 4
    assert attributes["split"] == "test"


def test_arviz_reads_it(data):
    az = arviz_adapter.arviz()
    radius = az.summary(data, group="posterior_predictive", var_names=["radius"], kind="stats")
    assert len(radius) == 80
    mean = read_group(data, "posterior_predictive")["radius"].mean((0, 1)).flatten()
    assert np.allclose(radius["mean"].astype(float), mean, rtol=0.05)


def test_many_draws_are_made_in_parts(pairs, monkeypatch):
    monkeypatch.setattr("vje_pyro.diagnostics._programs._CHUNK_BYTES", 7 * 4 * 2 * 40 * 8)
    data = to_arviz(pairs, 20)
    z = read_group(data, "posterior")["z"][0]
    assert len(np.unique(z[:, 0, 0, 0])) == 20
    weights, elbo = (read_group(data, "sample_stats")[name] for name in ("log_weight", "elbo"))
    assert weights.shape == (1, 20, 40, 2)
    np.testing.assert_allclose(elbo, weights.mean((0, 1)))


def test_a_model_without_radius_and_data_without_classes(untrained_pairs):
    pairs = untrained_pairs(DiagonalNormal)
    pairs.method.radius = None
    data = to_arviz(pairs, 3)
    assert read_group(data, "log_likelihood").keys() == {"direction"}
    assert read_group(data, "prior_predictive").keys() == {"angle"}
    assert "class_size" not in read_group(data, "constant_data")


def test_an_older_file_is_kept(data, tmp_path):
    path = tmp_path / "inference.nc"
    path.write_text("precious")
    with pytest.raises(VJEError, match=r"is there already.*overwrite=True"):
        save_netcdf(data, path)
    assert path.read_text() == "precious"
    save_netcdf(data, path, overwrite=True)
    load_netcdf(path)


def test_a_failed_write_leaves_nothing(data, tmp_path, monkeypatch):
    def fails(_, path):
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(arviz_adapter, "write_netcdf", fails)
    path = tmp_path / "inference.nc"
    path.write_text("old")
    with pytest.raises(WriteError, match="No space left on device"):
        save_netcdf(data, path, overwrite=True)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["inference.nc"]


def test_files_that_are_not_ours_are_refused(data, tmp_path):
    with pytest.raises(VJEError, match="no NetCDF file at"):
        load_netcdf(tmp_path / "absent.nc")
    (tmp_path / "text.nc").write_text("x,y\n1,2\n")
    with pytest.raises(VJEError, match="cannot be read: it is no NetCDF file"):
        load_netcdf(tmp_path / "text.nc")
    whole = save_netcdf(data, tmp_path / "whole.nc").read_bytes()
    for share in (0.2, 0.9):
        (tmp_path / "part.nc").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(VJEError, match="or only part of one"):
            load_netcdf(tmp_path / "part.nc")
    foreign = arviz_adapter.build({"posterior": {"z": (("draw",), np.zeros(3))}}, {}, {"by": "x"})
    arviz_adapter.write_netcdf(foreign, tmp_path / "foreign.nc")
    with pytest.raises(VJEError, match="expected schema 'vje-pyro-inference' version 1, found No"):
        load_netcdf(tmp_path / "foreign.nc")
    with pytest.raises(VJEError, match="expected schema"):
        save_netcdf(foreign, tmp_path / "no.nc")
    schema = {"schema": export.SCHEMA, "schema_version": 99}
    arviz_adapter.write_netcdf(arviz_adapter.build({}, {}, schema), tmp_path / "newer.nc")
    with pytest.raises(VJEError, match="version 99"):
        load_netcdf(tmp_path / "newer.nc")
    schema["schema_version"] = [1, 2]
    arviz_adapter.write_netcdf(arviz_adapter.build({}, {}, schema), tmp_path / "several.nc")
    with pytest.raises(VJEError, match=r"version \[1, 2\]"):
        load_netcdf(tmp_path / "several.nc")
    schema["schema_version"] = export.SCHEMA_VERSION
    arviz_adapter.write_netcdf(arviz_adapter.build({}, {}, schema), tmp_path / "empty.nc")
    with pytest.raises(VJEError, match="lacks the groups"):
        load_netcdf(tmp_path / "empty.nc")


def test_unlabelled_data_are_not_counted(pairs):
    unlabelled = replace(pairs, labels=torch.full_like(pairs.labels, -1)).subset(slice(4))
    assert read_group(to_arviz(unlabelled, 2), "constant_data")["class_size"].tolist() == [0, 0, 0]
