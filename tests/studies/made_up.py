"""Results that were not measured."""

from studies.store import Record
from vje_pyro.evaluation import Figure, Result


def record(variant, protocol, figures, seed=0, *, features="encoder", train="ab", **fields):
    """A result whose figures have an interval of 0.01 below and 0.02 above."""
    dataset = {"name": "toy", "digest": {"train": train}} | fields.pop("dataset", {})
    made = {n: Figure(v, v - 0.01, v + 0.02, 4000, "made up") for n, v in figures.items()}
    method = fields.pop("method", "VJE")
    return Record(variant, Result(protocol, dataset, method, features, made, seed, **fields))


def searched(variant, accuracies):
    """The search of the rate, as far as it has come."""
    return [
        record(variant, "rate-search-v1", {"accuracy": accuracy}, settings={"rate": rate})
        for rate, accuracy in accuracies.items()
    ]
