"""Where a step computes, reads and writes, and how large it is."""

from dataclasses import dataclass
from pathlib import Path

import torch

TINY = (
    "training.epochs=2", "encoder.widths=[8,16]", "encoder.stem_width=8",
    "data.train_limit=300", "data.test_limit=120", "loader.batch_size=64",
    "monitor.bank=100", "monitor.queries=50",
)  # fmt: skip
"""Overrides that make any experiment on digits a matter of seconds."""


@dataclass(frozen=True)
class Context:
    """What all steps are told.

    Args:
        root: Holds ``runs/gpu`` and ``docs/results/gpu``.
        data_root: Folder of the data sets.
        tiny: A version for the CPU that takes seconds: digits in place of CIFAR-10.
        workers: Small trainings that share the GPU.
    """

    root: Path
    data_root: Path = Path("data")
    tiny: bool = False
    workers: int = 12

    @property
    def device(self) -> torch.device:
        """The GPU; the CPU where there is none, and for a tiny version."""
        there = torch.cuda.is_available() and not self.tiny
        return torch.device("cuda" if there else "cpu")

    @property
    def results(self) -> Path:
        """Folder of the result files."""
        return self.root / "docs" / "results" / "gpu"

    @property
    def runs(self) -> Path:
        """Folder of the trainings and of the logs."""
        return self.root / "runs" / "gpu"

    def experiment(self, name: str) -> str:
        """Name of an experiment, or of the one that stands for it."""
        return "digits" if self.tiny else name

    @property
    def overrides(self) -> list[str]:
        """Of every training: where it computes and reads, and in a tiny one its size."""
        size = TINY if self.tiny else (f"data.root={self.data_root}",)
        return [
            *size, f"device.accelerator={self.device.type}", "training.progress=false",
            "training.tensorboard=false",
        ]  # fmt: skip
