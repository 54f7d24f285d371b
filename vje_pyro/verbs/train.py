"""Train a method, or continue a training."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vje_pyro.configuration.choosing import with_choices
from vje_pyro.configuration.overrides import Overrides, as_words, composed, parsed, readable
from vje_pyro.run import Representation, load
from vje_pyro.verbs import pretrain


def train(
    experiment: str | DictConfig = "digits",
    run_dir: str | Path | None = None,
    overrides: Overrides = (),
    *,
    trust: tuple[str, ...] | list[str] = (),
) -> Representation:
    """Train a method on a data set, as ``vje train`` does.

    Progress is logged (``logging.basicConfig(level="INFO")`` shows it).

    Args:
        experiment: Name of an experiment, ``"my_images"`` (with ``data.root`` among the
            overrides), ``"digits"`` and so on (``vje train --help`` lists them); or a
            configuration that Hydra composed from ``experiments/conf/train.yaml``.
        run_dir: Directory of the run, which must not hold one; ``runs/NAME/TIME`` when None.
        overrides: Values by their keys, ``{"training.epochs": 3, "encoder": "resnet18"}``, or words
            as on the command line, ``["training.epochs=3", "encoder=resnet18"]``.
        trust: Packages whose classes the run may name when it is loaded, besides vje_pyro.

    Returns:
        The trained run, as :func:`vje_pyro.load` returns it.

    Raises:
        VJEError: If a key, component, data set, device or directory cannot be used; each
            message names the key.

    Example:
        >>> import vje_pyro
        >>> run = vje_pyro.train(
        ...     "digits", "runs/a", {"training.epochs": 3}
        ... )  # doctest: +SKIP
        >>> run.embed(images).shape  # doctest: +SKIP
        torch.Size([100, 256])
    """
    words = readable(as_words(overrides))
    if isinstance(experiment, str):
        config = composed(with_choices([f"experiment={experiment}", *words]))
    else:
        merged = OmegaConf.merge(experiment, parsed(words))
        assert isinstance(merged, DictConfig)
        config = merged
    path = Path(run_dir or config.run_dir).expanduser().absolute()
    pretrain.pretrain(config, path)
    return load(path, trust=[*config.trust, *trust])


def resume(
    run: str | Path, overrides: Overrides = (), *, trust: tuple[str, ...] | list[str] = ()
) -> Representation:
    """Continue a run from its last checkpoint, with its own configuration.

    Args:
        run: Run directory.
        overrides: As of :func:`train`, of where to compute and read; anything that would change
            what is computed is refused.
        trust: Packages whose classes the run's configuration may name, besides vje_pyro.

    Returns:
        The run, trained to its end.

    Raises:
        CheckpointError: If there is nothing to resume, or the run's configuration is refused.
        DataError: If the training images have changed.
        VJEError: If an override is refused, or its value wrong.

    Example:
        >>> run = resume("runs/a")  # doctest: +SKIP
    """
    words = as_words(overrides)
    pretrain.resume(run, words, trust)
    return load(run, trust=trust)
