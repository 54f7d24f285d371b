"""Studies: what is trained and measured, stored and shown (``python -m studies --help``)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository, which holds ``docs/results`` and ``runs``."""
