"""The steps in their order."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gpu import cifar10, correctness, studies, throughput
from gpu.context import Context
from gpu.report import Outcome


@dataclass(frozen=True)
class Step:
    """One step of the suite.

    Args:
        name: Of the step and of its result file.
        purpose: What it is for.
        minutes: Wall time on one H100, an estimate.
        run: Does it, or goes on with it.
        keeps: Whether what was done is kept when the time ends: checkpoints, finished parts.
    """

    name: str
    purpose: str
    minutes: float
    run: Callable[[Context], Outcome]
    keeps: bool = True


def _cifar10(method: str, epochs: int, minutes: float) -> Step:
    purpose = f"ResNet-18 on CIFAR-10, {method}, {epochs} epochs: kNN, linear, few labels, cost"
    run = partial(cifar10.train, method=method, epochs=epochs)
    return Step(cifar10.name_of(method, epochs), purpose, minutes, run)


_18 = partial(throughput.run, name="throughput-resnet18", sweep=throughput.RESNET18)
_50 = partial(throughput.run, name="throughput-resnet50", sweep=throughput.RESNET50)

STEPS = {
    step.name: step
    for step in (
        Step(
            "correctness",
            "bf16, channels-last, torch.compile and CUDA graphs against float64 on the CPU",
            4, correctness.run,
        ),
        Step("ablation", "the ablation of the model: 16 variants, 3 seeds", 7, studies.ablation),
        Step("methods", "the study of 11 methods: 3 rates and 2 seeds", 30, studies.methods),
        Step("recipe", "the screening of VJE's recipe: every variant, 1 seed", 5, studies.recipe),
        Step("throughput-resnet18", "cost of a step at 32 px beside the encoder's own", 4, _18),
        Step("throughput-resnet50", "cost of a step at 224 px beside the encoder's own", 5, _50),
        _cifar10("vje", 100, 8),
        Step(
            "ood", "out-of-distribution detection with the model of cifar10-vje-100",
            4, cifar10.ood, keeps=False,
        ),
        Step(
            "uncertainty", "use of that model's uncertainty: risk, human doubt, corruptions",
            3, cifar10.uncertainty, keeps=False,
        ),
        _cifar10("simsiam", 100, 8),
        _cifar10("byol", 100, 10),
        _cifar10("vicreg", 100, 8),
        Step("one-class", "one-class detection on CIFAR-10, three classes", 6, cifar10.one_class),
        Step("sweep", "learning rate, β and D, 30 epochs of the small network", 7, studies.sweep),
        _cifar10("vje", 200, 15),
    )
}  # fmt: skip
