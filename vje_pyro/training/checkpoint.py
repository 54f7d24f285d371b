"""Checkpoints: one safetensors file each, written atomically, read without pickle.

The tensors are ``model.<name>`` and ``optimizer.<parameter name>.<state name>``; everything else is
JSON in the header (``schema``, ``version``, ``meta``). ``digests`` there holds the SHA-256 of each
tensor (dtype, shape and bytes), and ``digest`` that of ``meta`` and ``digests``: a part of the file
can be read and checked without the rest.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from vje_pyro.atomic import write_atomic
from vje_pyro.errors import CheckpointError
from vje_pyro.inference import LocalParams
from vje_pyro.reading import parse_json, validate
from vje_pyro.training.run_dir import RunDir

logger = logging.getLogger(__name__)

SCHEMA = "vje-pyro-checkpoint"
VERSION = 1

OptimizerState = dict[str, dict[str, Any]]
"""Optimiser state by parameter name, then by state name; tensors, numbers or None."""


@dataclass
class Checkpoint:
    """All that is needed to continue from a step."""

    step: int  #: Optimiser steps done.
    epoch: int  #: Epochs completed.
    model: dict[str, Tensor]  #: State dictionary of the method.
    optimizer: OptimizerState = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  #: Of the run, resolved.
    versions: dict[str, str | None] = field(default_factory=dict)  #: Of the packages that wrote.
    extra: dict[str, Any] = field(default_factory=dict)  #: What else the writer wants back.


class Meta(BaseModel):
    """What a checkpoint holds beside its tensors; fields as those of :class:`Checkpoint`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step: NonNegativeInt
    epoch: NonNegativeInt
    optimizer: dict[str, dict[str, Any]]
    config: dict[str, Any]
    versions: dict[str, str | None]
    extra: dict[str, Any]


def save_checkpoint(checkpoint: Checkpoint, *paths: Path) -> None:
    """Write ``checkpoint`` to each of ``paths``, each atomically and in the order given.

    Raises:
        CheckpointError: A path cannot be written.
        TypeError: The model's state holds something that is not a tensor.
    """
    data = _serialise(checkpoint)
    for path in paths:
        write_atomic(path, data)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        CheckpointError: No such file, or one that is truncated, changed since it was written, of
            another schema or version, with weights that are not finite, or no safetensors.
    """
    meta, tensors = _read(Path(path), prefixes=("model.", "optimizer."))
    model, optimizer = _split(tensors)
    for parameter, scalars in meta.optimizer.items():
        optimizer.setdefault(parameter, {}).update(scalars)
    return Checkpoint(**{**dict(meta), "model": model, "optimizer": optimizer})


def load_meta(path: str | Path) -> Meta:
    """Read what a checkpoint holds beside its tensors; errors as of :func:`load_checkpoint`."""
    return _read(Path(path), prefixes=())[0]


def load_weights(path: str | Path, module: nn.Module) -> None:
    """Load weights and buffers of a checkpoint, or of a run's last one, into ``module``.

    Raises:
        CheckpointError: The file cannot be read (:func:`load_checkpoint`), or its names or shapes
            are not those of ``module``, each of which is named; nothing is changed.
    """
    path = Path(path)
    if path.is_dir():
        path = RunDir(path).last
    _, tensors = _read(path, prefixes=("model.",))
    load_model_state(module, _split(tensors)[0], path)


def load_model_state(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load ``state`` into ``module`` after checking every name and shape; see `load_weights`."""
    made = list(_local_params(module, state))
    own = module.state_dict()
    problems = [f"{name}: missing in the checkpoint" for name in own if name not in state]
    known = {*own, *(f"{prefix}{name}" for prefix, _, names in made for name in names)}
    problems += [f"{name}: unknown to the model" for name in state if name not in known]
    problems += [
        f"{name}: shape {tuple(state[name].shape)} in the checkpoint, {tuple(own[name].shape)} "
        "in the model"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit this {type(module).__name__}: {_shorten(problems)}. "
            "Build the model with the configuration stored beside the checkpoint (run.json)."
        )
    for prefix, params, names in made:
        params.make_missing({name: state[f"{prefix}{name}"] for name in names})
    module.load_state_dict(dict(state))


def _local_params(
    module: nn.Module, state: Mapping[str, Tensor]
) -> Iterator[tuple[str, LocalParams, list[str]]]:
    """What the module's Pyro programs make in their first step: prefix, where, and names."""
    for path, part in module.named_modules():
        if isinstance(part, LocalParams):
            prefix = f"{path}." if path else ""
            yield prefix, part, [k.removeprefix(prefix) for k in state if k.startswith(prefix)]


def pack_optimizer(optimizer: Optimizer, module: nn.Module) -> OptimizerState:
    """State of ``optimizer`` by the names its parameters have in ``module``."""
    return {
        name: dict(optimizer.state[parameter])
        for name, parameter in module.named_parameters()
        if optimizer.state.get(parameter)
    }


def unpack_optimizer(optimizer: Optimizer, module: nn.Module, state: OptimizerState) -> None:
    """Inverse of :func:`pack_optimizer`; the hyper-parameters stay those of ``optimizer``.

    Each tensor takes the memory layout of its parameter: fused optimisers do not look at strides.

    Raises:
        CheckpointError: The state belongs to another optimiser.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    ordered = [names[parameter] for parameter in trained]
    strangers = sorted(set(state) - set(ordered))
    if strangers:
        raise CheckpointError(
            f"The checkpoint's optimiser state has parameters that are not trained here: "
            f"{_shorten(strangers)}. Resume with the run's own configuration, or start a new run "
            "with init_from to take over the weights only."
        )
    own = optimizer.state_dict()
    own["state"] = {
        index: {key: _laid_out_like(parameter, value) for key, value in state[name].items()}
        for index, (name, parameter) in enumerate(zip(ordered, trained, strict=True))
        if name in state
    }
    optimizer.load_state_dict(own)


def _laid_out_like(parameter: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _serialise(checkpoint: Checkpoint) -> bytes:
    tensors = {f"model.{name}": value for name, value in checkpoint.model.items()}
    scalars: OptimizerState = {}
    for parameter, state in checkpoint.optimizer.items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{parameter}.{name}"] = value
            else:
                scalars.setdefault(parameter, {})[name] = value
    own = {name: _detached(name, value) for name, value in tensors.items()}
    fields = {name: getattr(checkpoint, name) for name in Meta.model_fields}
    meta = json.dumps({**fields, "optimizer": scalars}, default=str)
    digests = json.dumps({name: _digest_tensor(value) for name, value in own.items()})
    header = {"schema": SCHEMA, "version": str(VERSION), "meta": meta, "digests": digests}
    return to_bytes(own, header | {"digest": _digest_header(header)})


def _detached(name: str, value: object) -> Tensor:
    """A contiguous copy on the CPU that shares no storage (safetensors refuses shared ones)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; a checkpoint holds tensors only")
    return value.detach().to("cpu", copy=True).contiguous()


def _digest_tensor(value: Tensor) -> str:
    hasher = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} ".encode())
    hasher.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _digest_header(header: Mapping[str, str]) -> str:
    return hashlib.sha256(f"{header['meta']}\n{header['digests']}".encode()).hexdigest()


def _read(path: Path, prefixes: tuple[str, ...]) -> tuple[Meta, dict[str, Tensor]]:
    """The header and the tensors of which a name begins so, all as they were written."""
    if not path.is_file():
        raise CheckpointError(f"No checkpoint at {path}. Check the path of the run.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_version(path, header)
            names = list(file.keys())
            digests = _read_digests(path, header, names)
            wanted = [name for name in names if name.startswith(prefixes)]
            tensors = {name: file.get_tensor(name) for name in wanted}
        changed = [n for n in tensors if digests and digests[n] != _digest_tensor(tensors[n])]
        if changed:
            raise ValueError(f"changed since they were written: {_shorten(changed)}")
        bad = find_nonfinite({n: v for n, v in tensors.items() if n.startswith("model.")})
        if bad is not None:
            raise ValueError(f"{bad} is not finite")
        return validate(Meta, parse_json(header.get("meta", "").encode())), tensors
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        # Whatever is wrong with a file, safetensors and torch answer with errors of many kinds.
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({error}): it is truncated, damaged, or not a "
            "safetensors file. Files of other kinds (pickles, .pt, .ckpt) are never opened. Use "
            "another checkpoint of the run: best.safetensors or an epoch_*.safetensors."
        ) from error


def _check_version(path: Path, header: Mapping[str, str]) -> None:
    if header.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path} has the schema {header.get('schema')!r}, expected {SCHEMA!r}: it was not "
            "written by this trainer. Give a checkpoint of a run of `vje train`."
        )
    if header.get("version") != str(VERSION):
        raise CheckpointError(
            f"{path} has version {header.get('version')!r} of the schema, this vje-pyro reads "
            f"version {VERSION}. Install the version of vje-pyro named in the run's run.json."
        )


def _read_digests(path: Path, header: Mapping[str, str], names: list[str]) -> dict[str, str]:
    """The digest of each tensor; none for a file of a version that wrote none."""
    if header.keys() == {"schema", "version", "meta"}:
        logger.warning(
            "%s was written without a digest: damage to its numbers cannot be detected.", path
        )
        return {}
    if header.get("digest") != _digest_header(header):
        raise ValueError("the header has changed since it was written")
    digests: dict[str, str] = validate(dict[str, str], parse_json(header["digests"].encode()))
    if digests.keys() != set(names):
        raise ValueError("it does not hold the tensors that were written")
    return digests


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], OptimizerState]:
    model: dict[str, Tensor] = {}
    optimizer: OptimizerState = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            model[rest] = value
        else:
            parameter, _, state = rest.rpartition(".")
            optimizer.setdefault(parameter, {})[state] = value
    return model, optimizer


def find_nonfinite(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first floating tensor with a NaN or infinity; one transfer from the device."""
    named = [(name, value) for name, value in state.items() if value.is_floating_point()]
    if not named:
        return None
    finite = torch.stack([value.isfinite().all() for _, value in named]).cpu().tolist()
    return next((name for (name, _), good in zip(named, finite, strict=True) if not good), None)


def _shorten(items: Iterable[str], limit: int = 8) -> str:
    items = list(items)
    more = f"; and {len(items) - limit} more" if len(items) > limit else ""
    return "; ".join(items[:limit]) + more
