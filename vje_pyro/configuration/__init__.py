"""The configuration of a training: its folder, its overrides, and what it may hold."""

from pathlib import Path

CONFIG_DIR = Path(__file__).resolve().parents[1] / "experiments" / "conf"
"""Folder of ``train.yaml`` and its groups."""


def groups() -> dict[str, list[str]]:
    """The choices of every group, such as ``likelihood/radius``."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONFIG_DIR.glob("*/**/*.yaml")):
        name = path.parent.relative_to(CONFIG_DIR).as_posix()
        found.setdefault(name, []).append(path.stem)
    return found
