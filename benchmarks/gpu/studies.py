"""Steps ``ablation``, ``methods``, ``recipe``, ``sweep``: small trainings, several at a time."""

import sys
from pathlib import Path

import ablation as ablation_study
import methods as methods_study
import recipe as recipe_study
from parallel import run_all

from gpu.context import Context
from gpu.figures import merged, read_results
from gpu.report import Outcome
from vje_pyro.errors import VJEError
from vje_pyro.evaluation import DEFAULT

SEEDS = (0, 1, 2)
METHOD_SEEDS = (0, 1)
SWEEP_EPOCHS = 30

SWEEP: dict[str, list[str]] = {
    "baseline": [],
    **{f"rate-{rate:g}": [f"optimizer.lr={rate:g}"] for rate in (5e-4, 1e-3, 4e-3, 8e-3)},
    **{f"beta-{beta:g}": [f"method.beta={beta:g}"] for beta in (0.25, 0.5, 2, 4)},
    **{f"dim-{dim}": [f"encoder.widths=[64,128,{dim}]"] for dim in (64, 128, 512)},
}
"""One setting changed at a time; the baseline has the rate 2e-3, β = 1 and D = 256."""


def ablation(context: Context) -> Outcome:
    """The ablation of the model on the small study, three seeds; see ``benchmarks/ablation.py``."""
    variants = ["beta-4"] if context.tiny else list(ablation_study.VARIANTS)
    seeds = SEEDS[:1] if context.tiny else SEEDS
    ablation_study.main([
        *context.overrides, "--variants", *variants, "--seeds", *map(str, seeds),
        *_where(context, "cifar10_small", "gpu/ablation"),
    ])  # fmt: skip
    folder = context.results / "ablation"
    failed = ablation_study.missing(folder, seeds, variants)
    figures = {
        name: figure
        for variant in variants
        for name, figure in merged(read_results(folder / variant), f"{variant}_").items()
    }
    settings = {"variants": {name: ablation_study.VARIANTS[name] for name in variants}}
    return Outcome(figures, settings, seeds, {"failed": [f"{v}, seed {s}" for v, s in failed]})


def methods(context: Context) -> Outcome:
    """The study of methods, a search of the rate and two seeds; see ``benchmarks/methods.py``."""
    names = ["vje"] if context.tiny else list(methods_study.METHODS)
    seeds = METHOD_SEEDS[:1] if context.tiny else METHOD_SEEDS
    methods_study.main([
        *context.overrides, "--methods", *names, "--seeds", *map(str, seeds),
        *_where(context, "cifar10_small", "gpu/methods"),
    ])  # fmt: skip
    study = methods_study.Study(
        context.experiment("cifar10_small"), root=context.root, name="gpu/methods"
    )
    failed = [f"{m}, seed {s}" for m in names for s in seeds if not study.is_done(m, s)]
    figures = {
        name: figure
        for method in names
        for name, figure in merged(read_results(study.results(method)), f"{method}_").items()
    }
    best = {method: best_rate(context, method) for method in names}
    settings = {
        "methods": {name: methods_study.METHODS[name] for name in names},
        "rates": {name: study.rates(name) for name in names},
    }
    return Outcome(figures, settings, seeds, {"failed": failed, "best_rates": best})


def recipe(context: Context) -> Outcome:
    """The screening of the recipe, one seed on validation images; see ``benchmarks/recipe.py``."""
    variants = ["centre"] if context.tiny else list(recipe_study.VARIANTS)
    seeds, features = SEEDS[:1], list(recipe_study.FEATURES)
    parts = [(variants, features[:1]), (["centre"], features)]
    for names, read in parts:
        recipe_study.main([
            *context.overrides, "--variants", *names, "--seeds", *map(str, seeds),
            "--features", *read, *_where(context, "cifar10_small", "gpu/recipe"),
        ])  # fmt: skip
    study = methods_study.Study(
        context.experiment("cifar10_small"), root=context.root, name="gpu/recipe"
    )
    failed = [
        f"{variant}, {', '.join(left)}"
        for names, read in parts
        for variant, _, left in recipe_study.missing(study, names, seeds, read)
    ]
    figures = {
        f"{variant}_{result.features}_{name}": figure
        for variant in variants
        for result in read_results(study.results(variant))
        for name, figure in merged([result]).items()
    }
    settings = {"variants": {name: recipe_study.VARIANTS[name] for name in variants}}
    return Outcome(figures, settings, seeds, {"failed": failed})


def best_rate(context: Context, method: str) -> float | None:
    """Learning rate that the study of methods found best; None if it has not searched it yet."""
    study = methods_study.Study("", root=context.root, name="gpu/methods")
    try:
        return study.best_rate(method)
    except VJEError:
        return None


def sweep(context: Context) -> Outcome:
    """Learning rate, β and D of the small network on all of CIFAR-10, 30 epochs, one seed."""
    settings = SWEEP if not context.tiny else {"baseline": [], "dim-32": ["encoder.widths=[8,32]"]}
    epochs = [] if context.tiny else ["encoder=small_resnet", f"training.epochs={SWEEP_EPOCHS}"]
    folder = context.results / "sweep"
    missing = [name for name in settings if len(read_results(folder / name)) < len(DEFAULT)]
    commands = [
        [
            sys.executable, str(Path(ablation_study.__file__).with_name("study.py")), *epochs,
            *context.overrides, *settings[name], "--seeds", "0", "--features", "encoder",
            "--study", f"gpu/sweep/{name}", "--root", str(context.root),
            "--experiment", context.experiment("cifar10_paper"),
        ]
        for name in missing
    ]  # fmt: skip
    run_all(commands, context.workers)
    figures, failed = {}, []
    for name in settings:
        results = read_results(folder / name)
        figures |= merged(results, f"{name}_")
        failed += [name] * (len(results) < len(DEFAULT))
    return Outcome(figures, {"settings": settings}, (0,), {"failed": failed})


def _where(context: Context, experiment: str, study: str) -> list[str]:
    return [
        "--experiment", context.experiment(experiment), "--study", study,
        "--root", str(context.root), "--workers", str(context.workers),
    ]  # fmt: skip
