"""The collapse alarm: figures of a run against their normal ranges.

Normal ranges, with margin around what VJE shows on digits (20 epochs) and in its first 40 steps on
CIFAR-10 at 16 pixels:

====================== =========== ========= ========================== ==========
figure                 normal      untrained collapsed                  alarm
====================== =========== ========= ========================== ==========
``rankme`` / min(D, n) 0.05 to 0.8 0.1       towards 1 / D              below 0.02
``embedding_std``      0.5 to 1    0.2       0                          below 0.1
``active_units``       0.5 to 1    0         0                          below 0.1
``kl`` / D, nats       0.1 to 3    –         0: posterior = prior       below 0.01
``clamp_fraction``     0 to 0.05   0         1: the scale is a constant above 0.25
====================== =========== ========= ========================== ==========

D is the embedding dimension, n the number of monitored images. ``rankme`` finds collapse to few
dimensions, ``embedding_std`` to a point, ``active_units`` and ``kl`` posterior collapse; the
figures and their sources are in :mod:`vje_pyro.training.monitors`. The first epoch is let off,
because an untrained network can look collapsed.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vje_pyro.errors import VJEError
from vje_pyro.ranges import NonNegativeFloat, NonNegativeInt

logger = logging.getLogger(__name__)


class CollapseError(VJEError):
    """Training was stopped because the representation collapsed."""


@dataclass(frozen=True)
class Thresholds:
    """Where the alarm begins; see the table above. A threshold of None is not checked."""

    rankme: NonNegativeFloat | None = 0.02
    embedding_std: NonNegativeFloat | None = 0.1
    active_units: NonNegativeFloat | None = 0.1
    kl: NonNegativeFloat | None = 0.01
    clamp_fraction: NonNegativeFloat | None = 0.25


def collapse_alarms(
    figures: Mapping[str, float],
    num_features: int,
    num_images: int,
    thresholds: Thresholds = Thresholds(),
) -> list[str]:
    """Describe each figure outside its normal range; figures that are not given are skipped.

    ``rankme`` was computed of ``num_images`` embeddings of dimension ``num_features``.
    """
    rank_limit = min(num_features, num_images)
    checks = [
        ("rankme", 1 / rank_limit, f"of min(D, n) = {rank_limit}: few directions are used"),
        ("embedding_std", 1.0, "of an even spread: all images get nearly one embedding"),
        ("active_units", 1.0, "of the posterior means vary: posterior collapse"),
        ("kl", 1 / num_features, "nats per dimension: the posterior is the prior"),
    ]
    alarms = []
    for name, unit, meaning in checks:
        limit, value = getattr(thresholds, name), figures.get(name)
        # "not >=", so that a NaN rings too
        if limit is not None and value is not None and not value * unit >= limit:
            alarms.append(f"{name} {value * unit:.3g} {meaning} (normal: {limit:g} or more)")
    limit, value = thresholds.clamp_fraction, figures.get("clamp_fraction")
    if limit is not None and value is not None and not value <= limit:
        alarms.append(
            f"clamp_fraction {value:.3g} of the scales are at their bound "
            f"(normal: {limit:g} or less)"
        )
    return alarms


@dataclass
class CollapseAlarm:
    """Checks the figures of every epoch, and logs when an alarm begins or ends.

    Args:
        thresholds: Limits of the normal ranges.
        on_collapse: ``warn`` continues; ``stop`` ends the run after a checkpoint.
        grace_epochs: Epochs at the start that raise no alarm.

    Raises:
        ValueError: ``on_collapse`` is neither ``warn`` nor ``stop``.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    on_collapse: Literal["warn", "stop"] = "warn"
    grace_epochs: NonNegativeInt = 1

    def __post_init__(self) -> None:
        if self.on_collapse not in ("warn", "stop"):
            raise ValueError(f"on_collapse is 'warn' or 'stop', got {self.on_collapse!r}")
        self._ringing: frozenset[str] = frozenset()

    def check(
        self, figures: Mapping[str, float], epoch: int, num_features: int, num_images: int
    ) -> list[str]:
        """Alarms after ``epoch`` epochs; logged when their kinds differ from the last call's."""
        if epoch <= self.grace_epochs:
            return []
        alarms = collapse_alarms(figures, num_features, num_images, self.thresholds)
        kinds = frozenset(alarm.split()[0] for alarm in alarms)
        if kinds != self._ringing:
            _ring(alarms, epoch)
        self._ringing = kinds
        return alarms


def _ring(alarms: list[str], epoch: int) -> None:
    if not alarms:
        logger.warning("Collapse alarm over: all figures are normal after epoch %d.", epoch)
        return
    edge = "!" * 78
    listed = "\n".join(f"!!  {alarm}" for alarm in alarms)
    logger.warning(
        "\n%s\n!!  COLLAPSE ALARM after epoch %d\n%s\n!!  What helps: a lower learning rate, "
        "weight decay, stronger views; vje_pyro.training.collapse explains the ranges.\n%s",
        edge,
        epoch,
        listed,
        edge,
    )
