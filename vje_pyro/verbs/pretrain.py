"""From a configuration to a trained run: everything that a training is made of."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf

from vje_pyro.building import build, checked
from vje_pyro.configuration.overrides import composed, expanded, parsed
from vje_pyro.configuration.schema import check
from vje_pyro.data import (
    DataSource,
    ImageArray,
    ImageFiles,
    Normalize,
    ResidentLoader,
    StreamingLoader,
    Views,
)
from vje_pyro.encoders.pointwise import gather_before_pointwise
from vje_pyro.errors import DataError, VJEError, explained, first_line, for_users
from vje_pyro.evaluation import knn_accuracy
from vje_pyro.training.activation_checkpointing import checkpoint_activations
from vje_pyro.training.checkpoint import load_weights
from vje_pyro.training.devices import (
    TIMEOUT_S,
    check_batch,
    check_cores,
    make_fabric,
    processes_to_start,
    synchronize_batch_norm,
)
from vje_pyro.training.labels import labels_for
from vje_pyro.training.launchers import launch
from vje_pyro.training.loop import FitResult, Loader, Trainer
from vje_pyro.training.monitors import Monitor
from vje_pyro.training.optim import param_groups
from vje_pyro.training.processes import (
    MAX_RESTARTS,
    is_lost_connection,
    is_restart,
    meet_again,
    run_together,
)
from vje_pyro.training.run_dir import RunDir
from vje_pyro.training.run_json import read_run_json
from vje_pyro.training.seeding import seed_step
from vje_pyro.training.step import compile_encoder
from vje_pyro.verbs.training_log import log_outcome, log_summary, logged

logger = logging.getLogger(__name__)

# What may differ when a run goes on: where it computes and reads, never what it computes.
_RESUME_OVERRIDES = (
    "device.", "data.root", "data.source.root", "data.index", "data.download",
    "loader.num_workers", "training.progress", "trust=", "logger=", "logger.",
)  # fmt: skip
_INSISTS = "data_changed=true"


def pretrain(
    config: DictConfig,
    run_dir: str | Path,
    resume: bool = False,
    data_digest: str | None = None,
) -> FitResult:
    """Train what ``config`` describes in ``run_dir``.

    Args:
        config: As composed from ``experiments/conf/train.yaml``.
        run_dir: Directory of the run; new, unless ``resume``.
        resume: Continue from the last checkpoint of ``run_dir``.
        data_digest: Of the images that must be trained on; any when None.

    Returns:
        What :meth:`vje_pyro.training.loop.Trainer.fit` returns.

    Raises:
        VJEError: If a key, component, data set, device or directory cannot be used, or a
            process of several is lost.
    """
    if not resume:
        check(config)
    config = expanded(config)
    resume = resume or (is_restart() and RunDir(run_dir).last.is_file())
    RunDir(run_dir).check(resume)
    with explained("training cannot start"):
        device = config.device
        number, accelerator = processes_to_start(device)
        world_size = number * device.num_nodes
        check_batch(config.loader.batch_size, world_size, config.training.accumulate)
        if launch():  # this is one of them
            number = 1
        check_cores(number, accelerator)
    return run_together(
        number, run_dir, _train, config, str(run_dir), data_digest,
        resume=resume, max_restarts=device.get("max_restarts", MAX_RESTARTS),
    )  # fmt: skip


def _train(config: DictConfig, run_dir: str, data_digest: str | None, resume: bool) -> FitResult:
    """Train in this process, which may be one of several."""
    with explained("training cannot start"):
        fabric = make_fabric(config.device)
    _launch(fabric, config.device.get("timeout_s") or TIMEOUT_S)
    # The processes of a launcher have each dated a directory of their own: the first one's counts.
    directory = RunDir(fabric.broadcast(run_dir))
    config = _merged(config, {"run_dir": str(directory.path)})
    with for_users(), logged(directory, resume) if fabric.is_global_zero else nullcontext():
        return _fit(config, fabric, directory, data_digest, resume)


def _fit(
    config: DictConfig, fabric: Fabric, run_dir: RunDir, data_digest: str | None, resume: bool
) -> FitResult:
    with explained("training cannot start"):
        source: DataSource = build(config.data)
        config = _with_image(_with_value_range(config, source), source)
        torch.manual_seed(config.seed)  # the weights at the start; steps are seeded one by one
        method = build(config.method).to(memory_format=torch.channels_last)
        gather_before_pointwise(method)
        if config.init_from is not None and not resume:
            load_weights(config.init_from, method)
        if config.device.get("sync_batch_norm"):
            synchronize_batch_norm(method, fabric)
        if config.device.get("activation_checkpointing"):
            checkpoint_activations(method.encoder)
        image = {"image_size": source.image_size, "mean": source.mean, "std": source.std}
        views: Views = build(config.views, **image)
        data = source.split("pretrain")
        digest = _digest(data, data_digest) if fabric.is_global_zero else None
        loader, make_views = _loader(config, data, views, fabric)
        optimizer, schedule = build(config.optimizer), build(config.schedule)
        optimizer(param_groups(method)), schedule(0, 1)  # what is wrong with them shows here
        monitor = _monitor(config, source) if fabric.is_global_zero else None
        trackers = build(config.get("logger") or {})
        if fabric.is_global_zero:
            log_summary(config, source, method, loader, fabric, run_dir)
    _validate_first_step(method, loader, make_views, fabric, config)
    if config.device.get("compile"):
        compile_encoder(method, config.device.compile)
    with pyro.validation_enabled(False):  # its checks read values back at every site
        result = Trainer(
            method,
            loader,
            make_views,
            fabric=fabric,
            run_dir=run_dir,
            optimizer=optimizer,
            schedule=schedule,
            monitor=monitor,
            seed=config.seed,
            config=OmegaConf.to_container(config, resolve=True),  # type: ignore[arg-type]
            data_digest=digest,
            resume=resume,
            trackers=trackers,
            **config.training,
        ).fit()
    if fabric.is_global_zero:
        log_outcome(source, method, run_dir)
    return result


def _launch(fabric: Fabric, timeout_s: float) -> None:
    try:
        if is_restart() and fabric.world_size > 1:
            backend = "nccl" if fabric.device.type == "cuda" else "gloo"
            meet_again(backend, timedelta(seconds=timeout_s))
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        raise VJEError(
            f"the {fabric.world_size} processes of the run cannot meet (MASTER_ADDR, MASTER_PORT): "
            f"{error}"
        ) from error


def _with_image(config: DictConfig, source: DataSource) -> DictConfig:
    """The configuration with the image size and channels that encoders refer to.

    Raises:
        VJEError: If the configuration gives others.
    """
    image = {"channels": source.channels, "size": source.image_size}
    for key, value in image.items():
        if not OmegaConf.is_missing(config.image, key) and config.image[key] != value:
            raise VJEError(
                f"image.{key}={config.image[key]}: the images of {source.name} have {value}; image "
                f"is filled in from the data set (data.image_size, data.channels)"
            )
    return _merged(config, {"image": image})


def _digest(data: ImageArray | ImageFiles, expected: str | None) -> str:
    """Digest of the images that are trained on.

    Raises:
        DataError: If another one is expected.
    """
    digest = data.quick_digest()
    if expected not in (None, digest):
        raise DataError(
            f"the training images have changed since the run began: there are {len(data)} now, and "
            f"names, sizes, labels or pixels differ. Restore the data (data.root=FOLDER), or "
            f"continue anyway with data_changed=true (if an epoch has as many steps as before)."
        )
    return digest


def _with_value_range(config: DictConfig, source: DataSource) -> DictConfig:
    """The configuration with the range found in the data: evaluation and embedding keep to it."""
    value_range = source.find_value_range()
    if value_range is None:
        return config
    found: dict[str, Any] = {"value_range": list(value_range)}
    return _merged(config, {"data": {"source": found} if "source" in config.data else found})


def _merged(config: DictConfig, more: dict[str, Any]) -> DictConfig:
    merged = OmegaConf.merge(config, more)
    assert isinstance(merged, DictConfig)
    return merged


def _loader(
    config: DictConfig, data: ImageArray | ImageFiles, views: Views, fabric: Fabric
) -> tuple[Loader, Callable[[torch.Tensor], torch.Tensor]]:
    """Batches, and what makes views of one: arrays that fit stay on the device, files stream."""
    common: dict[str, Any] = {
        "seed": config.seed,
        "device": fabric.device,
        "rank": fabric.global_rank,
        "world_size": fabric.world_size,
    }
    batch_size = config.loader.batch_size
    if isinstance(data, ImageArray) and _fits(data, fabric.device):
        return ResidentLoader(data, batch_size, **common), views
    workers = config.loader.num_workers
    loader = StreamingLoader(data, batch_size, views=views, num_workers=workers, **common)
    return loader, views.from_crops


def _fits(data: ImageArray, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return data.images.nbytes < free // 2


def _monitor(config: DictConfig, source: DataSource) -> Monitor | None:
    data = source.split("train")
    if isinstance(data, ImageFiles):
        wanted = config.monitor.get("bank", 0) + config.monitor.get("queries", 0)
        data = data.draw(wanted, config.seed).load() if wanted else data
    normalize = Normalize(source.mean, source.std)
    monitor: Monitor | None = build(config.monitor)(data, normalize, score=partial(_knn, k=20))
    return monitor


def _knn(
    bank_x: torch.Tensor,
    bank_y: torch.Tensor,
    query_x: torch.Tensor,
    query_y: torch.Tensor,
    k: int,
) -> float:
    return float(knn_accuracy(bank_x, bank_y, query_x, query_y, k=min(k, len(bank_x))))


def _validate_first_step(
    method: Any,
    loader: Loader,
    make_views: Callable[[torch.Tensor], torch.Tensor],
    fabric: Fabric,
    config: DictConfig,
) -> None:
    """One loss with every check of Pyro on, so that a wrong shape or parameter is named early."""
    state = {name: value.clone() for name, value in method.state_dict().items()}
    images, indices = next(iter(loader.epoch(0)))
    chosen = slice(None, None, config.training.accumulate)
    labels = [x[indices][chosen] for x in labels_for(method, loader, fabric.device)]
    before = set(pyro.get_param_store())
    seed_step(config.seed, 0, fabric.global_rank)
    try:
        with pyro.validation_enabled(True), torch.no_grad():
            method.to(fabric.device).loss(make_views(images[chosen]), *labels)
    except Exception as error:  # of any component
        if is_lost_connection(error):
            raise
        raise VJEError(f"the first step failed: {first_line(error)}") from error
    own = set(map(id, method.parameters()))
    made = {n: p for n, p in pyro.get_param_store().named_parameters() if n not in before}
    if strays := sorted(name for name, parameter in made.items() if id(parameter) not in own):
        raise VJEError(
            f"the first step created {strays} with pyro.param outside of model and guide, where "
            f"nothing trains them: create them inside, or in params.held() of the method."
        )
    # Batch norm statistics have seen the batch; what the programs have made stays.
    method.load_state_dict(method.state_dict() | state)


def resume(run: str | Path, overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> FitResult:
    """Continue a run with its own configuration.

    Args:
        run: Run directory.
        overrides: ``key=value`` of where to compute and read; anything that would change what is
            computed is refused. ``data_changed=true`` continues with changed images.
        trust: See :func:`vje_pyro.building.trusted_packages`; ``trust=[…]`` among the overrides
            adds to it.

    Raises:
        CheckpointError: If there is nothing to resume, or the run's configuration is refused by
            :func:`vje_pyro.building.checked`.
        DataError: If the training images have changed.
        VJEError: If an override is refused, or its value wrong.
    """
    info = read_run_json(Path(run))
    insists = _INSISTS in overrides
    overrides = [override for override in overrides if override != _INSISTS]
    refused = [o for o in overrides if not o.startswith(_RESUME_OVERRIDES)]
    if refused:
        raise VJEError(
            f"a resumed run keeps its configuration, but {refused} would change it: only "
            f"{_RESUME_OVERRIDES} may differ. For a new run from these weights use "
            f"init_from={run} without resume."
        )
    loggers = [override for override in overrides if override.startswith("logger")]
    own = parsed([override for override in overrides if override not in loggers])
    keys = [override.split("=")[0] for override in overrides]
    if loggers:
        own.logger, keys = composed(loggers).logger, [*keys, "logger"]
    stored = checked(info["config"], [*trust, *own.get("trust", ())], replaced=keys)
    stored["training"].pop("tensorboard", None)  # of older runs
    with explained("the run's configuration cannot be used"):
        config = OmegaConf.merge(stored, own)
        assert isinstance(config, DictConfig)
        # Components check their own; an older run has fewer keys of the device.
        compiled = ["device.compile"] if OmegaConf.select(config, "device.compile") else []
        check(config, only=[*keys, *compiled, "seed", "training", "loader"])
    return pretrain(config, run, resume=True, data_digest=None if insists else info["data_digest"])
