"""``vje export``."""

from typing import Annotated, Literal

from cyclopts import Parameter

from vje_pyro.experiments.common import HERE, Run, Where, _home, quiet


def main(
    run: Run,
    /,
    *,
    to: Literal["torchvision", "timm", "torch-export", "onnx", "safetensors"],
    out: Annotated[str | None, Parameter(converter=_home)] = None,
    where: Where = HERE,
) -> None:
    """Write the encoder for another library or runtime.

    Examples::

        vje export runs/photos --to onnx
        vje export runs/photos --to safetensors --out encoder.safetensors

    Args:
        to: torchvision, timm and safetensors hold weights. torch-export and onnx hold the whole
            computation, from uint8 images to embeddings.
        out: File to write, never overwritten (default: RUN/encoder-TO with the usual ending).
    """
    quiet()
    loaded = where.load(run)
    from vje_pyro.verbs.export import export

    print(export(loaded, to, out))
