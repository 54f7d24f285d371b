"""Out-of-distribution detection with a run."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vje_pyro.data import ImageArray, list_outliers, read_outliers
from vje_pyro.data.decoding import printable
from vje_pyro.evaluation import OutOfDistribution, Result, Scorer
from vje_pyro.evaluation.scorer import NUM_VIEWS, Split
from vje_pyro.run import Representation
from vje_pyro.scores import OutlierScores
from vje_pyro.verbs.columns import write_columns
from vje_pyro.verbs.partial import Parts, output_folder


def detect(
    run: Representation,
    sets: Sequence[str] = (),
    *,
    root: str | Path | None = None,
    num_views: int = NUM_VIEWS,
    calibrate_on: str | None = None,
    folder: str | Path | None = None,
) -> dict[str, Result]:
    """Detect images of other data sets among those of a run's test split, by every score.

    Writes a result file for each set when it is ready, with AUROC, AUPR and FPR at 95 % TPR of
    every score, and beside it a CSV with the scores of every image. A higher score
    means more unusual.

    Args:
        run: As :func:`vje_pyro.load` returns it.
        sets: Names that :func:`vje_pyro.data.read_outliers` accepts; all of ``ROOT/ood`` when
            None.
        root: Folder of data sets; the run's own when None.
        num_views: Random views per image.
        calibrate_on: Split that p-values are read from, such as ``"validation"``, which the encoder
            has not seen; training images outside the densities when None.
        folder: Where to write; ``RUN/results`` when None.

    Returns:
        The results by the set's name: the last part of its path, or more if names repeat.

    Raises:
        DataError: If the run's own data cannot be read.
        LeftOut: If sets were left out: missing, damaged or the run's own data.
        WriteError: If the folder cannot be written.

    Example:
        >>> results = detect(run, ["svhn"])  # doctest: +SKIP
        >>> results["svhn"].figures["auroc_knn"].value  # doctest: +SKIP
        0.92
    """
    out = output_folder(run.directory.results, folder)
    root = root or run.config["data"].get("root", "data")
    outliers = distinct_names(list(sets) or list_outliers(root))
    train, test = (run.source.split(name) for name in ("train", "test"))
    calibration = calibrate_on and run.source.split(calibrate_on)
    scorer = Scorer(
        run.method, train, run.normalize, run.views, num_views, calibration=calibration or None
    )
    detector = OutOfDistribution(
        scorer, train, test, dataset=run.source.name, seed=run.info["seed"], config=run.config
    )
    parts, results = Parts(), {}
    parts.left_out |= scorer.left_out
    for name, path in outliers.items():
        with parts.part(name):
            split = read_outliers(path, root, run.source)
            results[name] = detector(name, split)
            results[name].write(out / f"ood-v1-{name}.json")
            inside, outside = ("test", test, detector.inliers), (name, split, detector.scores[name])
            write_columns(out / f"ood-v1-{name}.csv", _columns(inside, outside))
    parts.finish(results)
    return results


def _columns(*sets: tuple[str, Split, OutlierScores]) -> dict[str, np.ndarray]:
    """Scores of every image, with its set and its name."""
    columns = np.array([(name, image) for name, split, _ in sets for image in names_of(split)])
    scores = {k: np.concatenate([scores[k] for *_, scores in sets]) for k in sets[0][2]}
    return {"set": columns[:, 0], "image": columns[:, 1]} | scores


def readable(split: Split) -> list[int]:
    """Indices of the images of a split that could be decoded."""
    if isinstance(split, ImageArray):
        return list(range(len(split)))
    return [index for index in range(len(split)) if split.name(index) not in split.corrupt]


def names_of(split: Split) -> list[str]:
    """Names of the images of a split that could be decoded; their numbers, of arrays."""
    if isinstance(split, ImageArray):
        return [str(index) for index in range(len(split))]
    return [split.name(index) for index in readable(split)]


def distinct_names(paths: Sequence[str]) -> dict[str, str]:
    """Each path once, by the shortest end of it that no other has.

    Example:
        >>> distinct_names(["a/noise", "b/noise", "svhn", "svhn"])
        {'a-noise': 'a/noise', 'b-noise': 'b/noise', 'svhn': 'svhn'}
    """
    ends = {path: [p for p in Path(path).absolute().parts if p != os.sep] for path in paths}
    names = {}
    for path, parts in ends.items():
        others = [other for other in ends.values() if other != parts]
        depth = 1
        while depth < len(parts) and any(o[-depth:] == parts[-depth:] for o in others):
            depth += 1
        names[printable("-".join(parts[-depth:]))] = path
    return names
