"""What a training says: its log file, what it is made of, what came of it."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig

from vje_pyro.atomic import open_to_append
from vje_pyro.data import DataSource, ImageFolder
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.reading import read_csv
from vje_pyro.training.loop import Loader
from vje_pyro.training.run_dir import RunDir

logger = logging.getLogger(__name__)


class _Lines(logging.StreamHandler[TextIO]):
    """A line that cannot be written is lost; files that matter raise errors of their own."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""


@contextmanager
def logged(directory: RunDir, resume: bool) -> Iterator[None]:
    """Claim the directory, and write what is logged in the block to its train.log."""
    with directory.claim(resume), open_to_append(directory.log) as file:
        handler = _Lines(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


def log_summary(
    config: DictConfig,
    source: DataSource,
    method: torch.nn.Module,
    loader: Loader,
    fabric: Fabric,
    run_dir: RunDir,
) -> None:
    """What is trained, on what, and for how long."""
    parameters = sum(p.numel() for p in method.parameters())
    logger.info("run     %s", run_dir.path)
    logger.info("data    %s, %d images to train on", source, len(source.split("pretrain")))
    for line in source.describe():
        logger.info("data    %s", line)
    for line in config.get("chosen", ()):
        logger.info("chosen  %s", line)
    logger.info("method  %s, %s parameters", type(method).__name__, f"{parameters:,}")
    logger.info(
        "steps   %d epochs of %d steps of %d images on %d × %s, precision %s",
        config.training.epochs,
        loader.steps_per_epoch,
        config.loader.batch_size,
        fabric.world_size,
        fabric.device.type,
        fabric._precision.precision,
    )


def log_outcome(source: DataSource, method: torch.nn.Module, directory: RunDir) -> None:
    """What came of a training, and the commands that come next."""
    rows = read_csv(directory.epochs) if directory.epochs.is_file() else []
    if measured := [row for row in rows if row.get("knn")]:
        last, best = measured[-1], max(measured, key=lambda row: float(row["knn"]))
        logger.info(
            "kNN     accuracy %.1f %% after epoch %s, best %.1f %% after epoch %s, on training "
            "images that are not in its bank", 100 * float(last["knn"]), last["epoch"],
            100 * float(best["knn"]), best["epoch"],
        )  # fmt: skip
    alarmed = {row["epoch"]: row["alarms"] for row in rows if row.get("alarms")}
    said = "; ".join(f"epoch {epoch}: {words}" for epoch, words in list(alarmed.items())[-3:])
    logger.info("alarms  %s", f"in {len(alarmed)} epochs, last {said}" if alarmed else "none")
    logger.info("saved   %s", directory.last)
    for verb, *options in _next_commands(source, method):
        logger.info("next    %s", shlex.join(["vje", verb, str(directory.path), *options]))


def _next_commands(source: DataSource, method: torch.nn.Module) -> Iterator[list[str]]:
    """Verbs that have something to say of a run, with their options."""
    if isinstance(source, ImageFolder):
        folder = str(source.root)
        yield ["outliers", folder]
        yield ["neighbours", folder]
    if source.num_classes > 1 and "test" in source.splits:
        yield ["evaluate"]
    if isinstance(method, ProbabilisticMethod):
        yield ["diagnose", "--quick"]
    yield ["report"]
    yield ["posterior"]
