"""Encoders leave the library: what the other side computes is what the run computes."""

import json
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import vje_pyro
from vje_pyro.building import build
from vje_pyro.errors import CheckpointError, VJEError
from vje_pyro.training.checkpoint import Checkpoint, save_checkpoint
from vje_pyro.training.run_dir import RunDir
from vje_pyro.training.run_json import write_run_json

PROGRAMS = {
    "guide": {"_target_": "vje_pyro.guides.DiagonalNormal", "_partial_": True,
              "hidden_features": 8},
    "direction": {"_target_": "vje_pyro.distributions.PowerSpherical", "_partial_": True},
    "radius": None,
}  # fmt: skip


def make_run(path, encoder, image_size=96, channels=3):
    """A run with an untrained encoder."""
    data = {"_target_": "vje_pyro.data.ImageFolder", "root": "nowhere", "image_size": image_size,
            "channels": channels}  # fmt: skip
    method = {"_target_": "vje_pyro.models.VJE", "encoder": encoder, **PROGRAMS}
    torch.manual_seed(0)
    made = build(method)
    directory = RunDir(path)
    directory.checkpoints.mkdir(parents=True)
    save_checkpoint(Checkpoint(step=0, epoch=0, model=made.state_dict()), directory.last)
    write_run_json(path, {"data": data, "method": method}, seed=0)
    return vje_pyro.load(path)


def resnet(image_size=96, channels=3):
    return {"_target_": "vje_pyro.encoders.ResNet", "name": "resnet18", "image_size": image_size,
            "in_channels": channels}  # fmt: skip


SMALL = {"_target_": "vje_pyro.encoders.SmallResNet", "in_channels": 3, "widths": [8, 16],
         "stem_width": 8}  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("large") / "run", resnet())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("small") / "run", SMALL, image_size=16)


def pixels(run, count=3):
    size = run.source.image_size
    generator = torch.Generator().manual_seed(1)
    shape = count, run.source.channels, size, size
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_the_encoder_is_a_trainable_copy(small):
    encoder, before = small.encoder(), small.embed(pixels(small))
    assert encoder.training
    assert all(p.requires_grad for p in encoder.parameters())
    encoder(small.normalize(pixels(small))).sum().backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 1
    assert torch.equal(small.embed(pixels(small)), before)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_another_librarys_model_computes_the_same(large, tmp_path, library):
    path = vje_pyro.export(large, library, tmp_path / "weights.safetensors")
    if library == "timm":
        timm = pytest.importorskip("timm")
        model = timm.create_model("resnet18", num_classes=0)
    else:
        from torchvision import models

        model = models.resnet18()
        model.fc = torch.nn.Identity()
    model.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    mean, std = (torch.tensor(facts[key]).view(-1, 1, 1) for key in ("mean", "std"))
    images = pixels(large)
    with torch.inference_mode():
        found = model.eval()((images / 255 - mean) / std)
    torch.testing.assert_close(found, large.embed(images), rtol=1e-3, atol=1e-4)
    assert facts["image_size"] == 96


def test_weights_come_back_into_the_encoder(small, tmp_path):
    path = vje_pyro.export(small, "safetensors", tmp_path / "e.safetensors")
    encoder = small.encoder()
    for parameter in encoder.parameters():
        torch.nn.init.zeros_(parameter)
    encoder.load_state_dict(load_file(path))
    with torch.inference_mode():
        found = encoder.eval()(small.normalize(pixels(small)))
    torch.testing.assert_close(found, small.embed(pixels(small)))


def test_a_program_takes_any_number_of_images(small, tmp_path):
    path = vje_pyro.export(small, "torch-export", tmp_path / "e.pt2")
    program = torch.export.load(path).module()
    images = pixels(small, 5)
    torch.testing.assert_close(program(images), small.embed(images), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_onnx_computes_the_same(small, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = vje_pyro.export(small, "onnx", tmp_path / "e.onnx")
    images = pixels(small, 5)
    (found,) = runtime.InferenceSession(path).run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), small.embed(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("torchvision", "torchvision has no SmallResNet"),
        ("timm", "timm has no SmallResNet"),
        ("keras", "cannot export to 'keras'"),
    ],
)
def test_what_has_no_such_form_is_named(small, tmp_path, form, says):
    with pytest.raises(VJEError, match=says):
        vje_pyro.export(small, form, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (96, 1)])
def test_a_stem_of_ones_own_is_named(tmp_path, size, channels):
    run = make_run(tmp_path / "run", resnet(size, channels), size, channels)
    with pytest.raises(VJEError, match=r"torchvision's model differs in conv1"):
        vje_pyro.export(run, "torchvision")


def test_a_missing_package_is_named_with_its_extra(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(VJEError, match=r"pip install 'vje-pyro\[onnx\]'"):
        vje_pyro.export(small, "onnx", tmp_path / "x.onnx")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(VJEError, match=r"pip install 'vje-pyro\[hub\]'"):
        vje_pyro.from_pretrained("owner/name")


def test_nothing_is_overwritten(small, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(VJEError, match="exists and is not overwritten"):
        vje_pyro.export(small, "safetensors", tmp_path / "x")
    with pytest.raises(VJEError, match="never overwritten"):
        vje_pyro.save_pretrained(small, tmp_path)
    assert (tmp_path / "x").read_text() == "mine"


def test_a_folder_is_loaded_as_from_a_hub(small, tmp_path):
    folder = vje_pyro.save_pretrained(small, tmp_path / "card")
    images = pixels(small)
    again = vje_pyro.from_pretrained(folder)
    assert torch.equal(again.embed(images), small.embed(images))
    assert "library_name: vje-pyro" in (folder / "README.md").read_text()
    with pytest.raises(CheckpointError, match=r"run\.json"):
        vje_pyro.from_pretrained(tmp_path)


class Hub:
    """A hub that is a folder."""

    def __init__(self, folder):
        self.folder = folder

    def create_repo(self, name, private, exist_ok):
        (self.folder / name).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, repo_id, folder_path):
        import shutil

        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}"


def test_what_is_pushed_can_be_loaded(small, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "HfApi", lambda token: Hub(tmp_path))
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(tmp_path / name))
    assert vje_pyro.push_to_hub(small, "owner/name") == "https://hub/owner/name"
    run = vje_pyro.from_pretrained("owner/name")
    assert torch.equal(run.embed(pixels(small)), small.embed(pixels(small)))


@pytest.mark.parametrize("name", ["owner/no-such-name", "not a name/at/all"])
def test_a_name_that_is_not_there_is_named(name, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    if "/at" not in name:

        def missing(*_, **__):
            raise type("RepositoryNotFoundError", (Exception,), {})("404 Client Error")

        monkeypatch.setattr(hub, "snapshot_download", missing)
    with pytest.raises(VJEError, match="no such folder, and no such repository"):
        vje_pyro.from_pretrained(name)
