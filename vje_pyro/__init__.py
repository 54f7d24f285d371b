"""Variational Joint Embedding as a probabilistic program."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vje_pyro._version import __version__

if TYPE_CHECKING:
    from vje_pyro.joint_posterior import check_joint_posterior, fit_joint_posterior
    from vje_pyro.report import write_report
    from vje_pyro.run import Representation, load
    from vje_pyro.verbs.compare import compare
    from vje_pyro.verbs.detect import detect
    from vje_pyro.verbs.diagnose import diagnose
    from vje_pyro.verbs.embed import embed
    from vje_pyro.verbs.evaluate import evaluate
    from vje_pyro.verbs.export import export
    from vje_pyro.verbs.hub import from_pretrained, push_to_hub, save_pretrained
    from vje_pyro.verbs.neighbours import neighbours
    from vje_pyro.verbs.one_class import one_class
    from vje_pyro.verbs.outliers import outliers
    from vje_pyro.verbs.train import resume, train
    from vje_pyro.verbs.uncertainty import uncertainty

__all__ = [
    "Representation",
    "__version__",
    "check_joint_posterior",
    "compare",
    "detect",
    "diagnose",
    "embed",
    "evaluate",
    "export",
    "fit_joint_posterior",
    "from_pretrained",
    "load",
    "neighbours",
    "one_class",
    "outliers",
    "push_to_hub",
    "resume",
    "save_pretrained",
    "train",
    "uncertainty",
    "write_report",
]

_ELSEWHERE = {
    "from_pretrained": "verbs.hub",
    "push_to_hub": "verbs.hub",
    "save_pretrained": "verbs.hub",
    "Representation": "run",
    "load": "run",
    "resume": "verbs.train",
    "write_report": "report",
    "check_joint_posterior": "joint_posterior",
    "fit_joint_posterior": "joint_posterior",
}
"""Modules of the names that no verb's module is named by."""


def __getattr__(name: str) -> Any:
    # On demand: whoever wants a distribution, or the help text, need not wait for all the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"vje_pyro.{_ELSEWHERE.get(name, f'verbs.{name}')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
