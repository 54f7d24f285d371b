"""Results on their way from the machine that made them: one file, packed and unpacked."""

import tarfile
from pathlib import Path

from gpu.context import Context
from vje_pyro.errors import DataError


def collect(context: Context, archive: Path) -> int:
    """Pack result files, and the logs of the steps and of their trainings.

    Checkpoints stay behind: a training that is not done begins anew on another machine.

    Args:
        context: Says where they are.
        archive: File to write, a tar with gzip.

    Returns:
        How many files it holds.
    """
    logs = (path for kind in ("*.log", "*.csv") for path in context.runs.rglob(kind))
    files = sorted({*context.results.rglob("*.json"), *logs})
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path in files:
            tar.add(path, arcname=path.relative_to(context.root).as_posix())
    return len(files)


def restore(context: Context, archive: Path) -> int:
    """Unpack what :func:`collect` packed, over what is there.

    Returns:
        How many files it held.

    Raises:
        DataError: If it is no such archive, or holds files that belong elsewhere.
    """
    allowed = [path.relative_to(context.root) for path in (context.results, context.runs)]
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = tar.getmembers()
            for member in members:
                inside = any(Path(member.name).is_relative_to(folder) for folder in allowed)
                if not (member.isfile() and inside):
                    raise DataError(f"{archive} holds {member.name}, which is no result.")
            context.root.mkdir(parents=True, exist_ok=True)
            tar.extractall(context.root, members, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is not an archive of results: {error}") from error
    return len(members)
