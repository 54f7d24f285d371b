"""Odd configurations, composed and started: each trains a step or is refused in one line.

    python -m pytest -m slow tests/campaigns/configurations.py -s

Counts go to ``docs/results/campaigns/configurations.json``; ``VJE_CAMPAIGN_SEED`` repeats a run.
"""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from odd import ANYTHING, BY_TYPE, UNUSUAL, leaves, spelt

from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.errors import VJEError
from vje_pyro.provenance import git_commit
from vje_pyro.verbs.pretrain import pretrain

CASES = 500
SINGLE = 0.75
"""Share of the cases with one odd value; the others have two or three."""

RESULT = Path(__file__).parents[2] / "docs/results/campaigns/configurations.json"

SMALL = (
    "experiment=digits", "training.epochs=1", "training.max_steps=1", "training.progress=false",
    "encoder.widths=[4,8]", "encoder.stem_width=4",
    "loader.batch_size=16", "loader.num_workers=0", "data.train_limit=64", "data.test_limit=20",
    "monitor.bank=20", "monitor.queries=5",
)  # fmt: skip
BASES = (
    ("guide.hidden_features=8",),
    ("guide=low_rank_normal", "guide.rank=2", "guide.hidden_features=8", "aggregate=sigreg"),
    ("guide=affine_coupling_flow", "guide.hidden_features=8", "guide.flow_features=4",
     "prior=mixture", "aggregate=variance_covariance"),
    ("likelihood/direction=projected_student_t", "likelihood/radius=gamma", "prior=student_t",
     "optimizer=lars", "guide.hidden_features=8", "aggregate=sliced_wasserstein"),
    ("method=vssl", "method.hidden_dim=8", "method.output_dim=8", "optimizer=sgd"),
    ("method=vi_simsiam", "method.hidden_dim=8", "method.output_dim=8", "method.predictor_dim=4"),
    ("method=simsiam", "method.hidden_dim=8", "method.output_dim=8", "method.predictor_dim=4"),
    ("method=byol", "method.hidden_dim=8", "method.output_dim=8", "method.predictor_dim=4"),
)  # fmt: skip


def composed(overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", list(overrides))


def case(draw):
    """Overrides of a random case: a base and one to three odd values, or new keys."""
    base = (*SMALL, *draw.choice(BASES))
    keys = dict(leaves(composed([*base, "image.channels=1", "image.size=8"])))
    del keys["device.devices"], keys["device.num_nodes"]  # they start processes
    count = 1 if draw.random() < SINGLE else draw.randint(2, 3)
    odd = []
    for key in draw.sample(sorted(keys), count):
        kind = type(keys[key])
        value = draw.choice(draw.choice((UNUSUAL[kind], UNUSUAL[kind], BY_TYPE[kind], ANYTHING)))
        new = draw.random() < 0.05
        odd.append(f"++{key}{'_x' * new}={spelt(value)}")
    return base, odd


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_odd_configuration_trains_or_is_refused_in_one_line(tmp_path):
    seed = int(os.environ.get("VJE_CAMPAIGN_SEED") or random.randrange(2**32))
    print(f"seed {seed}")
    draw = random.Random(seed)
    counts, faults = Counter(), []
    for number in range(CASES):
        base, odd = case(draw)
        print(number, odd, end=" ", flush=True)  # what a crash of the process leaves
        try:
            pretrain(composed([*base, *odd]), tmp_path / str(number))
            outcome = "trained"
        except (VJEError, HydraException) as error:
            outcome = "refused"
            if isinstance(error, VJEError) and len(odd) == 1 and "\n" in str(error):
                faults.append(f"{odd}: several lines: {error}")
        except Exception as error:
            outcome = "tracebacks"
            faults.append(f"{base} {odd}: {error!r}")
        counts[outcome] += 1
        print(outcome, flush=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    names = ("refused", "trained", "tracebacks")
    result = {
        "name": "configurations",
        "seed": seed,
        "cases": CASES,
        **{name: counts[name] for name in names},
        "commit": git_commit(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    assert not faults, "\n".join(faults)
    assert counts["trained"] > CASES / 20  # the cases are not all absurd
