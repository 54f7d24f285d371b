"""The section on diagnostics: what ``vje diagnose`` wrote, shown as each check says."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from vje_pyro import names
from vje_pyro.diagnostics import load_check
from vje_pyro.diagnostics.check import SCHEMA, SCHEMA_VERSION
from vje_pyro.errors import CheckpointError
from vje_pyro.reading import JsonFormat, damaged, read_npz
from vje_pyro.report import plots
from vje_pyro.training.run_dir import RunDir


class Diagnostics(BaseModel):
    """What of the content of diagnostics.json is shown."""

    model_config = ConfigDict(strict=True)

    checks: dict[str, dict[str, Any]]
    images: dict[str, int]
    seed: int
    created: str
    posterior: str = "of one view"


_ADVICE = "Run vje diagnose again."
_FORMAT = JsonFormat(Diagnostics, missing="", advice=_ADVICE, schema=SCHEMA, version=SCHEMA_VERSION)

Block = dict[str, Any]
"""Title, text, rows, panels and verdict of a check."""


def section(run: Path) -> dict[str, Any]:
    """What the template shows; ``missing`` says what is wrong with the files, if anything is."""
    directory = RunDir(run)
    path = directory.diagnosis
    if not path.exists():
        return {"missing": "", "blocks": []}
    try:
        content = _FORMAT.read(path)
        arrays = read_npz(directory.diagnosis_arrays)
        return {"missing": "", "blocks": _blocks(path, content, arrays), **content.model_dump()}
    except CheckpointError as error:
        return {"missing": f"the files of vje diagnose could not be read: {error}"}


def _blocks(path: Path, content: Diagnostics, arrays: dict[str, np.ndarray]) -> list[Block]:
    try:
        order = dict.fromkeys([*names.CHECKS, *content.checks])
        return [
            _block(name, figures, arrays) for name in order if (figures := content.checks.get(name))
        ]
    except MemoryError:
        raise
    except Exception as error:
        # Rows and plots take figures and arrays as they are; what a wrong one leads to is open.
        raise damaged(path, error, _ADVICE) from error


def _block(name: str, figures: dict[str, Any], arrays: dict[str, np.ndarray]) -> Block:
    found = figures.get("verdict")
    block: Block = {"name": name, "title": name, "text": "", "rows": (), "panels": ()}
    block["verdict"] = found and {"flagged": bool(found["flagged"]), "text": str(found["text"])}
    if name not in names.CHECKS:
        return block  # of another version, or of a package that is not registered here
    check = load_check(name)
    own = {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}
    shown = check.show(figures, own)
    panels = [(plot.title, plots.draw(plot), plot.caption) for plot in shown.plots]
    return block | {
        "title": check.question, "text": check.about, "rows": shown.rows, "panels": panels,
    }  # fmt: skip
