"""Files on their way to a machine without internet, and back (docs/gpu.md).

python -m studies.carry wheels                       # packages that such a machine lacks
python -m studies.carry data /data parts --parts 2   # data sets, in archives of like size
python -m studies.carry results results.tar.gz       # results and logs of the GPU
python -m studies.carry unpack FILE … --to FOLDER    # any of the archives
"""

import argparse
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from studies import ROOT
from vje_pyro.atomic import make_folder
from vje_pyro.errors import DataError, VJEError

PACKAGES = (
    "pyro-ppl", "pyro-api", "opt_einsum", "hydra-core", "omegaconf", "lightning-fabric",
    "lightning-utilities", "lightly", "pytorch-ood",
)  # fmt: skip
"""For the model, the configuration, the loop and the baselines. PyTorch, torchvision and
scikit-learn are there already."""

SOURCE_ONLY = ("antlr4-python3-runtime",)
"""Of these there is no wheel to fetch: one is built. (Hydra and OmegaConf need this one.)"""

TARGET = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "abi3",
          "--abi", "none"]  # fmt: skip
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

DATA = ("cifar-10-batches-py", "cifar-100-python", "cifar10h.npz", "ood")
"""What of a folder of data sets the studies read."""


def pinned(names: Sequence[str], constraints: Path = ROOT / "constraints.txt") -> list[str]:
    """``NAME==VERSION`` of each.

    Raises:
        VJEError: A package is not in the constraints.
    """
    lines = constraints.read_text(encoding="utf-8").splitlines()
    pins = {_normal(line.split("==")[0]): line.strip() for line in lines if "==" in line}
    if unknown := [name for name in names if _normal(name) not in pins]:
        raise VJEError(f"{constraints.name} has no version of {unknown}")
    return [pins[_normal(name)] for name in names]


def _normal(name: str) -> str:
    """A package's name in the one form that all its spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheel_commands(out: Path, also: Sequence[str] = ()) -> list[list[str]]:
    """What fetches and builds the wheels."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    fetched, built = pinned([*PACKAGES, *also]), pinned(SOURCE_ONLY)
    return [
        [*pip, "download", "--no-deps", "--only-binary=:all:", *TARGET, *platforms,
         "--dest", str(out), *fetched],
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(out), *built],
    ]  # fmt: skip


def pack(files: Iterable[Path], root: Path, archive: Path) -> int:
    """Pack files below a folder.

    Returns:
        How many there are.
    """
    make_folder(archive.parent)
    with tarfile.open(archive, "w:gz") as tar:
        names = [path.relative_to(root).as_posix() for path in sorted(set(files))]
        for name in names:
            tar.add(root / name, arcname=name)
    return len(names)


def pack_data(root: Path, out: Path, parts: int) -> list[Path]:
    """Pack the data sets of a folder into archives of like size.

    Raises:
        DataError: There are none.
    """
    files = [p for name in DATA for p in (root / name, *(root / name).rglob("*")) if p.is_file()]
    if not files:
        raise DataError(f"{root} holds none of {', '.join(DATA)}")
    chosen: list[list[Path]] = [[] for _ in range(parts)]
    for path in sorted(files, key=lambda path: -path.stat().st_size):
        min(chosen, key=lambda part: sum(p.stat().st_size for p in part)).append(path)
    archives = [out / f"data-{number}.tar.gz" for number in range(1, parts + 1)]
    for archive, part in zip(archives, chosen, strict=True):
        pack(part, root, archive)
    return archives


def pack_results(root: Path, archive: Path) -> int:
    """Pack results, and the logs of trainings; checkpoints stay behind.

    A training that is not done begins anew on another machine.
    """
    logs = (path for kind in ("*.log", "*.csv") for path in (root / "runs").rglob(kind))
    results = (path for path in (root / "docs" / "results").rglob("*.jsonl"))
    return pack([*results, *logs], root, archive)


def unpack(archive: Path, folder: Path) -> int:
    """Unpack an archive over what is there.

    Returns:
        How many files it held.

    Raises:
        DataError: It is none of these archives, or holds what is no file below the folder.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = tar.getmembers()
            if strange := [member.name for member in members if not member.isfile()]:
                raise DataError(f"{archive} holds what is no file: {strange}")
            make_folder(folder)
            tar.extractall(folder, members, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error
    return len(members)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and carry; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.carry", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    wheels = commands.add_parser("wheels")
    wheels.add_argument("--out", type=Path, default=ROOT / "build" / "wheels")
    wheels.add_argument("--also", nargs="+", default=[], help="packages that machine lacks, too")
    data = commands.add_parser("data")
    data.add_argument("root", type=Path)
    data.add_argument("out", type=Path)
    data.add_argument("--parts", type=int, default=2)
    results = commands.add_parser("results")
    results.add_argument("archive", type=Path)
    results.add_argument("--root", type=Path, default=ROOT)
    back = commands.add_parser("unpack")
    back.add_argument("archives", type=Path, nargs="+")
    back.add_argument("--to", type=Path, default=ROOT)
    options = parser.parse_args(arguments)
    try:
        _carry(options)
    except (VJEError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _carry(options: argparse.Namespace) -> None:
    if options.command == "wheels":
        for command in wheel_commands(options.out, options.also):
            subprocess.run(command, check=True)
        made = sorted(options.out.glob("*.whl"))
    elif options.command == "data":
        made = pack_data(options.root, options.out, options.parts)
    elif options.command == "results":
        print(f"{pack_results(options.root, options.archive)} files")
        made = [options.archive]
    else:
        for archive in options.archives:
            print(f"{unpack(archive, options.to)} files from {archive}")
        return
    for path in made:
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path}")


if __name__ == "__main__":
    sys.exit(main())
