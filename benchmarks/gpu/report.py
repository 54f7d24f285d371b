"""The result file of a step, and the parts of it that are kept while the step is not done."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.context import Context
from vje_pyro.atomic import write_atomic
from vje_pyro.evaluation import Figure
from vje_pyro.provenance import git_commit, versions

SCHEMA, SCHEMA_VERSION = "vje-pyro-gpu-step", 1


@dataclass(frozen=True)
class Outcome:
    """What a step found.

    Args:
        figures: By name, each with its interval.
        settings: Every number that the step was run with.
        seeds: Of the trainings or the draws.
        details: What is good to know beside the figures.
        passes: Whether a check is met; None where nothing is checked.
    """

    figures: Mapping[str, Figure]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    details: Mapping[str, Any] = field(default_factory=dict)
    passes: bool | None = None


def report_path(context: Context, step: str) -> Path:
    """Result file of a step."""
    return context.results / f"{step}.json"


def write_report(context: Context, step: str, outcome: Outcome, seconds: float) -> None:
    """Write ``docs/results/gpu/<step>.json``, whole or not at all.

    Args:
        context: Gives the folder and the device.
        step: Its name.
        outcome: What it found.
        seconds: Wall time of the call that finished it.

    Raises:
        ValueError: If a number is NaN or infinite.
    """
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "tiny": context.tiny,
        **asdict(outcome),
        "seconds": round(seconds, 1),
        "device": describe(context.device),
        "versions": versions(),
        "commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(report_path(context, step), content)


def describe(device: torch.device) -> dict[str, Any]:
    """Name, memory and software of a device."""
    if device.type != "cuda":
        amx, avx512 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        bfloat16 = "AMX" if amx else "AVX-512" if avx512 else "emulated"
        return {"name": device.type, "threads": torch.get_num_threads(), "bfloat16": bfloat16}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "threads": torch.get_num_threads(),
    }


def part(context: Context, step: str, name: str, measure: Callable[[], Any]) -> Any:
    """A part of a step: read where an earlier call has finished it, else made and kept.

    Args:
        context: Gives the folder.
        step: The step's name.
        name: The part's name.
        measure: Makes the part, as JSON has it.
    """
    path = context.results / "parts" / step / f"{name}.json"
    if not path.exists():
        _write(path, measure())
        print(f"{step}: {name} measured", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def spread(values: list[float], of: str) -> Figure:
    """Median and quartiles of repeated measurements."""
    low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return Figure(middle, low, high, len(values), f"quartiles over {of}")


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
