"""Runs on the Hugging Face Hub (extra ``hub``), or in a folder as a hub holds them."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from vje_pyro._version import __version__
from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.errors import VJEError, first_line
from vje_pyro.run import Representation, load
from vje_pyro.training.run_dir import RunDir

_FILES = ("run.json", "checkpoints/last.safetensors", "README.md")


def save_pretrained(run: Representation, folder: str | Path) -> Path:
    """Write what :func:`from_pretrained` needs of a run: configuration, weights, a model card.

    Only the checkpoint that the run was loaded from is written.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        folder: Where to write; it must be empty, or not exist.

    Raises:
        VJEError: The folder holds files.
        WriteError: It cannot be written.

    Example:
        >>> save_pretrained(run, "photos-encoder")  # doctest: +SKIP
        PosixPath('photos-encoder')
    """
    directory = RunDir(folder)
    if directory.path.is_dir() and any(directory.path.iterdir()):
        raise VJEError(f"{directory.path} holds files, which are never overwritten.")
    make_folder(directory.checkpoints)
    write_atomic(directory.run_json, run.directory.run_json.read_bytes())
    write_atomic(directory.path / "README.md", model_card(run))
    shutil.copyfile(run.directory.checkpoint(run.checkpoint), directory.last)
    return directory.path


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "cpu",
    trust: tuple[str, ...] | list[str] = (),
    token: str | None = None,
) -> Representation:
    """Load a run from a folder, or from the Hugging Face Hub.

    A run from the hub may come from someone you do not know. Its configuration may name only known
    components, and nothing is unpickled (``docs/explanation/security.md``).

    Args:
        name: A folder, or ``OWNER/NAME`` on the hub.
        revision: Branch, tag or commit on the hub.
        device: Where to compute.
        trust: Packages whose classes the configuration may name, besides vje_pyro.
        token: For a private repository; that of ``hf auth login`` when None.

    Raises:
        VJEError: There is no such folder or repository, the hub cannot be reached, or
            huggingface_hub is not installed.
        CheckpointError: It holds no run.

    Example:
        >>> run = from_pretrained("owner/photos-encoder")  # doctest: +SKIP
    """
    if not os.path.isdir(name):
        hub = _hub()
        try:
            name = hub.snapshot_download(
                str(name), revision=revision, token=token, allow_patterns=list(_FILES)
            )
        except Exception as error:  # of the network, the hub, or the name
            raise _refused(str(name), error) from error
    return load(name, device=device, trust=trust)


def push_to_hub(
    run: Representation, name: str, *, private: bool = False, token: str | None = None
) -> str:
    """Upload a run to the Hugging Face Hub.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        name: ``OWNER/NAME``; the repository is made if need be.
        private: Whether a new repository is private.
        token: With the right to write; that of ``hf auth login`` when None.

    Returns:
        The address of the upload.

    Raises:
        VJEError: The hub refuses or cannot be reached, or huggingface_hub is not installed.

    Example:
        >>> push_to_hub(run, "owner/photos-encoder")  # doctest: +SKIP
        'https://huggingface.co/owner/photos-encoder/tree/main/'
    """
    api = _hub().HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(run, folder)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=name, folder_path=folder))
        except Exception as error:
            raise _refused(name, error) from error


def model_card(run: Representation) -> str:
    """What a reader of the hub has to know: a README with the metadata that the hub reads."""
    source, method = run.source, type(run.method).__name__
    size = f"{source.image_size} × {source.image_size} pixels, {source.channels} channels"
    return f"""---
library_name: vje-pyro
pipeline_tag: image-feature-extraction
tags: [self-supervised-learning, variational-joint-embedding]
---

# {method} encoder of {source.name}

Trained without labels by [vje-pyro](https://pypi.org/project/vje-pyro/) {__version__}.

| | |
|---|---|
| method | {method} |
| encoder | {type(run.method.encoder).__name__}, {run.method.num_features} features |
| images | {source.name}, {size} |
| mean, std | {list(source.mean)}, {list(source.std)} |

```python
import vje_pyro

run = vje_pyro.from_pretrained("OWNER/NAME")
run.embed(images)  # uint8 images of any size
```

The embeddings describe images like those of the training. How well they do elsewhere was not
measured.
"""


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise VJEError(
            "huggingface_hub is not installed: pip install 'vje-pyro[hub]', or give a folder."
        ) from error
    return huggingface_hub


def _refused(name: str, error: Exception) -> VJEError:
    why = first_line(error)
    if type(error).__name__ in ("RepositoryNotFoundError", "HFValidationError"):
        why = "no such folder, and no such repository that your token can read"
    return VJEError(f"{name} on the Hugging Face Hub: {why} ({type(error).__name__}).")
