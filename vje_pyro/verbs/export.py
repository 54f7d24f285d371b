"""The encoder of a run, as other libraries and runtimes read it."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from vje_pyro.atomic import make_folder, replacing
from vje_pyro.encoders import ResNet, TimmEncoder
from vje_pyro.errors import VJEError, first_line
from vje_pyro.run import Representation

_PLAIN = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""ResNets whose weights have the same names in torchvision and timm."""


def export(run: Representation, to: str, out: str | Path | None = None) -> Path:
    """Write the encoder of a run in the form of another library.

    - ``safetensors``: the weights of ``run.encoder()``, by their names there.
    - ``torchvision``, ``timm``: the weights by the names of that library's model without its
      classifier, as safetensors.
    - ``torch-export``, ``onnx``: the whole computation, from uint8 images ``(N, C, S, S)`` to
      embeddings ``(N, D)``, for any N, with the normalisation.

    The files of weights hold, as metadata, the model's name, ``image_size``, ``channels``, ``mean``
    and ``std``: normalise images in [0, 1] with these.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        to: One of :data:`FORMS`.
        out: File to write, never overwritten; ``RUN/encoder-TO`` with the usual ending when None.

    Raises:
        VJEError: There is no such form, the encoder does not support it, a package is missing, or
            the file exists.
        WriteError: The file cannot be written.

    Example:
        >>> export(run, "torchvision")  # doctest: +SKIP
        PosixPath('runs/photos/encoder-torchvision.safetensors')
    """
    if to not in FORMS:
        raise VJEError(f"cannot export to {to!r}: choose from {', '.join(FORMS)}.")
    write, ending = FORMS[to]
    path = run.path / f"encoder-{to}{ending}" if out is None else Path(out)
    if path.exists():
        raise VJEError(f"{path} exists and is not overwritten: choose another name (--out).")
    make_folder(path.parent)
    with replacing(path) as (_, partial):
        write(run, partial)
    return path


def _weights(run: Representation, path: Path, encoder: nn.Module, name: str) -> None:
    from safetensors.torch import save_file

    source = run.source
    facts = {
        "model": name, "image_size": source.image_size, "channels": source.channels,
        "mean": list(source.mean), "std": list(source.std),
    }  # fmt: skip
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    tensors = {key: value.contiguous().cpu() for key, value in encoder.state_dict().items()}
    save_file(tensors, path, metadata)


def _safetensors(run: Representation, path: Path) -> None:
    encoder = run.method.encoder
    _weights(run, path, encoder, type(encoder).__name__)


def _torchvision(run: Representation, path: Path) -> None:
    from torchvision import models

    encoder = run.method.encoder
    name = run.config["method"]["encoder"].get("name")
    if not isinstance(encoder, ResNet):
        raise _not_of("torchvision", encoder, "it has ResNets (encoder=resnet18)")
    plain = models.get_model(name or "resnet18", weights=None)
    plain.fc = nn.Identity()
    _check_fits(encoder.network, plain, "torchvision")
    _weights(run, path, encoder.network, name or "resnet18")


def _timm(run: Representation, path: Path) -> None:
    encoder = run.method.encoder
    name = run.config["method"]["encoder"].get("name") or "resnet18"
    if isinstance(encoder, TimmEncoder):
        _weights(run, path, encoder.network, name)
        return
    if not isinstance(encoder, ResNet) or name not in _PLAIN:
        raise _not_of("timm", encoder, f"choose encoder=timm, or a ResNet of {', '.join(_PLAIN)}")
    other = _package("timm", "timm").create_model(name, in_chans=run.source.channels, num_classes=0)
    _check_fits(encoder.network, other, "timm")
    _weights(run, path, encoder.network, name)


def _not_of(library: str, encoder: nn.Module, way_out: str) -> VJEError:
    return VJEError(
        f"{library} has no {type(encoder).__name__}: {way_out}. torch-export, onnx and safetensors "
        "support every encoder."
    )


def _check_fits(network: nn.Module, other: nn.Module, library: str) -> None:
    """Refuse weights that the other library's model would not take."""
    own, others = ({k: v.shape for k, v in m.state_dict().items()} for m in (network, other))
    wrong = [name for name in {**own, **others} if own.get(name) != others.get(name)]
    if not wrong and _strides(network) != _strides(other):
        wrong = ["stem"]
    if wrong:
        raise VJEError(
            f"{library}'s model differs in {wrong[0]}: encoders of images of up to 64 pixels have "
            "a stem of their own, and torchvision's take three channels. Use torch-export, onnx or "
            "safetensors, or train with data.image_size=96 or more."
        )


def _strides(network: nn.Module) -> tuple[int, bool]:
    """What weights do not tell of a stem: kernel of the first convolution, and whether it pools."""
    kernel = next(m.kernel_size[0] for m in network.modules() if isinstance(m, nn.Conv2d))
    return kernel, any(isinstance(m, nn.MaxPool2d) for m in network.modules())


class _Whole(nn.Module):
    """From uint8 images to embeddings."""

    def __init__(self, normalize: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.normalize, self.encoder = normalize, encoder

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` of images ``(N, C, S, S)``."""
        embeddings: Tensor = self.encoder(self.normalize(images))
        return embeddings


def _whole(run: Representation) -> tuple[nn.Module, tuple[Tensor], dict[str, object]]:
    """The module on the CPU, an input, and that any number of images may come."""
    module = _Whole(run.normalize, run.encoder()).cpu().eval().requires_grad_(False)
    module.to(memory_format=torch.contiguous_format)
    size, channels = run.source.image_size, run.source.channels
    example = torch.zeros(2, channels, size, size, dtype=torch.uint8)
    return module, (example,), {"images": {0: torch.export.Dim("images")}}


def _torch_export(run: Representation, path: Path) -> None:
    module, example, shapes = _whole(run)
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    buffer = BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())


def _onnx(run: Representation, path: Path) -> None:
    _package("onnx", "onnx")
    _package("onnxscript", "onnx")
    module, example, shapes = _whole(run)
    program = torch.onnx.export(
        module, example, dynamo=True, verbose=False, dynamic_shapes=shapes,
        input_names=["images"], output_names=["embeddings"],
    )  # fmt: skip
    assert program is not None
    program.save(path)


def _package(name: str, extra: str):  # type: ignore[no-untyped-def]
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise VJEError(
            f"{name} is not installed ({first_line(error)}): pip install 'vje-pyro[{extra}]'."
        ) from error


FORMS: dict[str, tuple[Callable[[Representation, Path], None], str]] = {
    "torchvision": (_torchvision, ".safetensors"),
    "timm": (_timm, ".safetensors"),
    "torch-export": (_torch_export, ".pt2"),
    "onnx": (_onnx, ".onnx"),
    "safetensors": (_safetensors, ".safetensors"),
}
"""What writes each form, and the ending of its files."""
