"""Wheels for a GPU machine without internet that has PyTorch, torchvision and scikit-learn already.

    python benchmarks/gpu_wheels.py [--out build/wheels] [--also NAME …]

Fetches what training, evaluation and the baselines import beyond these, in the versions of
constraints.txt, for Python 3.12 on Linux x86-64, and prints the sizes. On the machine, in the
checkout::

    python -m pip install --no-index --no-deps build/wheels/*.whl
    python -m pip install --no-deps --no-build-isolation -e .
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = (
    "pyro-ppl", "pyro-api", "opt_einsum",
    "hydra-core", "omegaconf",
    "lightning-fabric", "lightning-utilities",
    "lightly", "pytorch-ood",
)  # fmt: skip
"""In the order of what they are for: the model, the configuration, the loop, the baselines."""

SOURCE_ONLY = ("antlr4-python3-runtime",)
"""Of these there is no wheel to fetch: one is built. (Hydra and OmegaConf need this one.)"""

TARGET = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "abi3",
          "--abi", "none"]  # fmt: skip
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pinned(names: Sequence[str], constraints: Path = ROOT / "constraints.txt") -> list[str]:
    """``NAME==VERSION`` of each.

    Raises:
        SystemExit: If a package is not in the constraints.
    """
    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            pins[normal(line.split("==")[0])] = line.strip()
    if unknown := [name for name in names if normal(name) not in pins]:
        raise SystemExit(f"error: {constraints.name} has no version of {unknown}")
    return [pins[normal(name)] for name in names]


def normal(name: str) -> str:
    """A package's name in the one form that all its spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def commands(out: Path, also: Sequence[str] = ()) -> list[list[str]]:
    """What fetches and builds the wheels."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    fetched, built = pinned([*PACKAGES, *also]), pinned(SOURCE_ONLY)
    return [
        [*pip, "download", "--no-deps", "--only-binary=:all:", *TARGET, *platforms,
         "--dest", str(out), *fetched],
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(out), *built],
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, fetch, and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "wheels")
    parser.add_argument("--also", nargs="+", default=[], help="packages that machine lacks, too")
    options = parser.parse_args(arguments)
    for command in commands(options.out, options.also):
        subprocess.run(command, check=True)
    sizes = {path.name: path.stat().st_size for path in sorted(options.out.glob("*.whl"))}
    for name, size in sizes.items():
        print(f"{size / 2**20:8.2f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:8.2f} MiB  in {options.out}")


if __name__ == "__main__":
    main()
