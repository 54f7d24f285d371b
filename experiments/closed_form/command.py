"""Joint embedding against reconstruction, in closed form: ``vje closed-form``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vje_pyro.atomic import make_folder
from vje_pyro.data import CIFAR10, DataSource, Digits
from vje_pyro.experiments.closed_form.experiment import (
    ALPHAS,
    principal_components,
    run_experiment,
    write_result,
)
from vje_pyro.experiments.closed_form.plot import draw

DATA = ("digits", "cifar10")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run the experiment, write its result and its picture."""
    parser = argparse.ArgumentParser(prog="vje closed-form", description=__doc__)
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--data-root", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--train", type=int, help="training images; default: all")
    parser.add_argument("--test", type=int, help="test images; default: all")
    parser.add_argument("--image-size", type=int, help="height and width; default: native")
    parser.add_argument("--components", type=int, default=20, help="important features k")
    parser.add_argument("--irrelevant", type=int, default=40, help="irrelevant features")
    parser.add_argument("--alphas", type=float, nargs="+", default=list(ALPHAS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/closed_form"))
    options = parser.parse_args(arguments)
    source = _source(options)
    features = principal_components(source, options.components)
    settings = {
        "train": len(features.train),
        "test": len(features.test),
        "image_size": source.image_size,
        "components": options.components,
        "irrelevant_features": options.irrelevant,
        "seeds": options.seeds,
    }
    measured = run_experiment(
        features,
        irrelevant_features=options.irrelevant,
        alphas=options.alphas,
        seeds=options.seeds,
    )
    make_folder(options.out)
    path = write_result(options.out, source, settings, measured)
    draw(measured, path.with_suffix(".svg"))
    _print(measured)
    print(f"result and picture in {path.with_suffix('')}.{{json,svg}}")


def _source(options: argparse.Namespace) -> DataSource:
    limits = {"train_limit": options.train, "test_limit": options.test}
    if options.data == "digits":
        return Digits(**limits, image_size=options.image_size)
    return CIFAR10(root=options.data_root, image_size=options.image_size, **limits)


def _print(measured: dict[str, Any]) -> None:
    for strength, found in measured["strengths"].items():
        for method, points in found["curves"].items():
            threshold = found["thresholds"][method]
            print(f"{strength} irrelevant features, {method}: threshold α = {threshold:.2f}")
            for point in points:
                accuracy, irrelevant = point["accuracy"], point["irrelevant"]
                print(
                    f"  α {point['alpha']:5.2f}  accuracy {accuracy['value']:.3f} "
                    f"[{accuracy['low']:.3f}, {accuracy['high']:.3f}]  irrelevant share "
                    f"{irrelevant['value']:.3f}"
                )
