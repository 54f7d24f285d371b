"""Is the embedding useful? Protocols of :mod:`vje_pyro.evaluation` on a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vje_pyro.data import ImageArray
from vje_pyro.errors import DataError
from vje_pyro.evaluation import Features, Result, extract, pixels
from vje_pyro.evaluation import evaluate as measure
from vje_pyro.evaluation.protocols import usable
from vje_pyro.method import ProbabilisticMethod
from vje_pyro.names import DEFAULT_PROTOCOLS
from vje_pyro.run import Representation
from vje_pyro.verbs.partial import Parts, output_folder


def evaluate(
    run: Representation,
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    *,
    features: str = "encoder",
    folder: str | Path | None = None,
) -> list[Result]:
    """Run protocols on the run's data set, and write each result file as soon as it is ready.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        protocols: Protocols to measure (:data:`vje_pyro.names.Protocol`).
        features: ``"encoder"``, ``"batch-norm"`` (see ``evaluation.features``), ``"whitened"``
            (the encoder's after :meth:`Representation.whitened <vje_pyro.Representation.whitened>`)
            or ``"pixels"``.
        folder: Where to write; ``RUN/results`` when None.

    Returns:
        The results, also written to ``FOLDER/PROTOCOL-FEATURES.json``.

    Raises:
        DataError: If the data set has no labelled train and test splits of two classes or more.
        LeftOut: If a protocol, a figure or images were skipped; everything else is written.
        WriteError: If the folder cannot be written.

    Example:
        >>> results = evaluate(run, ["knn-v1"])  # doctest: +SKIP
        >>> results[0].figures["accuracy"].value  # doctest: +SKIP
        0.97
    """
    out = output_folder(run.directory.results, folder)
    needs_posterior = "bayes-heads-v1" in protocols and isinstance(run.method, ProbabilisticMethod)
    train, test = _features(run, features, needs_posterior)
    usable(train, test)
    parts, results = Parts(), []
    for protocol in protocols:
        with parts.part(protocol):
            (result,) = measure(
                train,
                test,
                dataset=run.source.name,
                method="pixels" if features == "pixels" else type(run.method).__name__,
                features=features,
                seed=run.info["seed"],
                config=run.config,
                protocols=[protocol],
                device=run.device,
            )
            result.write(out / f"{protocol}-{features}.json")
            results.append(result)
            for name, why in result.details.get("left_out", {}).items():
                parts.left_out[f"{protocol} {name}" if "accuracy" in name else name] = why
    parts.finish(results)
    return results


def _features(run: Representation, features: str, posterior: bool) -> list[Features]:
    """Of the train and the test split."""
    splits = [run.source.split(name) for name in ("train", "test")]
    if features != "pixels":
        read = "encoder" if features == "whitened" else features
        found = [
            extract(
                run.method,
                split,
                run.normalize,
                device=run.device,
                features=read,
                posterior=posterior,
            )
            for split in splits
        ]
        if features != "whitened":
            return found
        whitening = run.whitened()[-1]
        return [replace(each, x=whitening.transform(each.x).numpy()) for each in found]
    if not all(isinstance(split, ImageArray) for split in splits):
        raise DataError("the raw-pixel baseline needs a data set that is held in memory.")
    return [pixels(split) for split in splits if isinstance(split, ImageArray)]
