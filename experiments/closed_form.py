"""``vje closed-form``."""

from pathlib import Path
from typing import Any, Literal

from vje_pyro.experiments.common import Place


def main(
    *,
    data: Literal["digits", "cifar10"] = "digits",
    data_root: Place = "data",
    train: int | None = None,
    test: int | None = None,
    image_size: int | None = None,
    components: int = 20,
    irrelevant: int = 40,
    alphas: tuple[float, ...] = (),
    seeds: tuple[int, ...] = (0, 1, 2),
    out: Place = "runs/closed_form",
) -> None:
    """Joint embedding against reconstruction, linear and in closed form.

    Examples::

        vje closed-form
        vje closed-form --data cifar10 --data-root DIR --train 5000 --image-size 16

    Args:
        data_root: Folder that holds CIFAR-10.
        train: Number of training images (default: all).
        test: Number of test images (default: all).
        image_size: Height and width in pixels (default: native).
        components: Number of important features, k.
        irrelevant: Number of irrelevant features.
        alphas: Alignments of the views with the irrelevant features.
        seeds: Random seeds of the noise.
        out: Folder for the result and its figure.
    """
    from vje_pyro.atomic import make_folder
    from vje_pyro.closed_form.experiment import (
        ALPHAS,
        principal_components,
        run_experiment,
        write_result,
    )
    from vje_pyro.closed_form.plot import draw
    from vje_pyro.data import CIFAR10, DataSource, Digits

    limits: dict[str, Any] = {
        "train_limit": train, "test_limit": test, "image_size": image_size
    }  # fmt: skip
    source: DataSource = Digits(**limits) if data == "digits" else CIFAR10(root=data_root, **limits)
    features = principal_components(source, components)
    settings = {
        "train": len(features.train),
        "test": len(features.test),
        "image_size": source.image_size,
        "components": components,
        "irrelevant_features": irrelevant,
        "seeds": list(seeds),
    }
    measured = run_experiment(
        features, irrelevant_features=irrelevant, alphas=alphas or ALPHAS, seeds=seeds
    )
    folder = Path(out)
    make_folder(folder)
    path = write_result(folder, source, settings, measured)
    draw(measured, path.with_suffix(".svg"))
    _print(measured)
    print(f"result and figure in {path.with_suffix('')}.{{json,svg}}")


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
