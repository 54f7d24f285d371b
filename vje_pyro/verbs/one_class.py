"""One-class detection: a model for each class, and how well it detects the other classes."""

import json
import logging
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.building import build
from vje_pyro.configuration.choosing import batch_size
from vje_pyro.configuration.overrides import Overrides, as_words, composed, readable
from vje_pyro.configuration.schema import check
from vje_pyro.data import DataSource
from vje_pyro.diagnostics.aggregate_posterior import BANK
from vje_pyro.errors import CheckpointError, DataError
from vje_pyro.evaluation import Result, Scorer
from vje_pyro.evaluation.one_class_protocol import one_class_figures
from vje_pyro.evaluation.scorer import NUM_VIEWS
from vje_pyro.reading import read_bytes, read_npz
from vje_pyro.run import load
from vje_pyro.scores import OutlierScores
from vje_pyro.statistics import RESAMPLES
from vje_pyro.training.run_dir import RunDir
from vje_pyro.verbs.partial import Parts
from vje_pyro.verbs.pretrain import pretrain, resume

logger = logging.getLogger(__name__)


def one_class(
    overrides: Overrides,
    run_dir: str | Path | None = None,
    classes: Sequence[int] | None = None,
    trust: Sequence[str] = (),
) -> Result:
    """Train what is missing, score the test split with every model, and write the result.

    Args:
        overrides: As :func:`vje_pyro.train` takes them.
        run_dir: Folder of the ten runs; ``runs/one-class/NAME-METHOD-seedSEED`` when None.
        classes: Numbers of the classes; all when None.
        trust: Packages that the models' configurations may name, beside those of ``trust`` in the
            configuration; see :func:`vje_pyro.building.trusted_packages`.

    Raises:
        DataError: If there is no such class, or the data have no labels.
        CheckpointError: If the folder holds models of another configuration.
        LeftOut: If classes were skipped, such as one with too few images; the others are written.
        VJEError: If an override is wrong.
    """
    start = time.perf_counter()
    config = _compose(overrides)
    config.trust = [*config.trust, *trust]
    source: DataSource = build(config.data)
    config.image = {"channels": source.channels, "size": source.image_size}
    train_split, test = source.split("train"), source.split("test")
    present = sorted(set(train_split.labels.unique().tolist()) - {-1})
    chosen = present if classes is None else list(classes)
    if len(present) < 2 or (unknown := [c for c in chosen if c not in present]):
        raise DataError(
            f"no class {unknown if len(present) > 1 else chosen} in the training split of "
            f"{source.name}: it has {present}."
        )
    folder = Path(run_dir or _default_dir(config))
    _claim(folder, config)
    scores, parts = {}, Parts()
    for label in chosen:
        with parts.part(f"class {label}"):
            if not (test.labels == label).any():
                raise DataError("the test split has no image of it")
            count = int((train_split.labels == label).sum())
            scores[label] = _class_scores(folder / f"class{label}", config, label, count)
    if not scores:
        parts.finish(scores)
    labelled = (test.labels >= 0).numpy()
    if not labelled.all():
        unknown_ones = f"{(~labelled).sum()} of {len(test)} images of the test split"
        parts.left_out[unknown_ones] = "they have no label of the training split's classes"
    # A study that an older version began lacks the scores that came later.
    first, *others = scores.values()
    shared = [name for name in first if all(name in table for table in others)]
    scores = {
        label: {name: table[name][labelled] for name in shared} for label, table in scores.items()
    }
    result = Result(
        protocol="one-class-v1",
        dataset={
            "name": source.name,
            "train": len(train_split),
            "test": len(test),
            "classes": len(scores),
            "digest": {"train": train_split.digest(), "test": test.digest()},
        },
        method=str(config.method._target_).rsplit(".", 1)[-1],
        features="encoder",
        figures=one_class_figures(scores, test.labels.numpy()[labelled]),
        seed=config.seed,
        settings={
            "positives": "outliers",
            "views": NUM_VIEWS,
            "bank": BANK,
            "resamples": RESAMPLES,
            "classes": list(scores),
        },
        config=OmegaConf.to_container(config, resolve=True),  # type: ignore[arg-type]
        details={"left_out": parts.left_out} if parts.left_out else {},
        wall_time_s=round(time.perf_counter() - start, 3),
    )
    result.write(folder / "one-class-v1.json")
    parts.finish(result)
    return result


def _compose(overrides: Overrides) -> DictConfig:
    """The configuration of all ten: without a monitor, whose kNN would have one class to find."""
    defaults = ["monitor=none", "training.progress=false"]
    config = composed([*defaults, *readable(as_words(overrides)), "run_dir=none"])
    check(config)
    return config


def _default_dir(config: DictConfig) -> Path:
    method = str(config.method._target_).rsplit(".", 1)[-1].lower()
    return Path("runs") / "one-class" / f"{config.name}-{method}-seed{config.seed}"


def _claim(folder: Path, config: DictConfig) -> None:
    """Refuse a folder whose models were made otherwise."""
    content = OmegaConf.to_container(OmegaConf.masked_copy(config, _keys(config)), resolve=False)
    text = json.dumps(content, indent=2) + "\n"
    file = folder / "one_class.json"
    if file.exists() and read_bytes(file) != text.encode():
        raise CheckpointError(
            f"{folder} holds models of another configuration ({file.name}): choose another with "
            f"run_dir=FOLDER."
        )
    make_folder(folder)
    write_atomic(file, text)


def _keys(config: DictConfig) -> list[str]:
    # Where it computes may differ.
    return [str(key) for key in config if key not in ("device", "run_dir", "image", "trust")]


def _class_scores(path: Path, config: DictConfig, label: int, count: int) -> OutlierScores:
    """Scores of the whole test split by the model of a class, trained unless it is there."""
    file = path / "scores.npz"
    if file.is_file():
        return read_npz(file)
    _train(path, config, label, count)
    on_gpu = torch.cuda.is_available() and config.device.accelerator != "cpu"
    root = config.data.get("root")
    run = load(path, device="cuda" if on_gpu else "cpu", trust=config.trust, data_root=root)
    scorer = Scorer(run.method, run.source.split("train"), run.normalize, run.views, labelled=False)
    scores = scorer(run.source.split("test"))
    buffer = BytesIO()
    np.savez(buffer, **scores)  # type: ignore[arg-type]
    write_atomic(file, buffer.getvalue())
    logger.info("class %s: scored", label)
    return scores


def _train(path: Path, config: DictConfig, label: int, count: int) -> None:
    if RunDir(path).last.is_file():
        root = config.data.get("root")
        resume(path, [] if root is None else [f"data.source.root={root}"], config.trust)
        return
    data = {"_target_": "vje_pyro.data.OneClass", "source": config.data, "label": label}
    own = OmegaConf.merge(config, {"run_dir": str(path)})
    assert isinstance(own, DictConfig)
    own.data = OmegaConf.create(data)
    own.loader.batch_size = batch_size(count, config.loader.batch_size)
    pretrain(own, path)
