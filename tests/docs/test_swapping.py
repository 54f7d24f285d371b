"""The page on swapping parts does what it says: its files are written and its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import TINY

from vje_pyro.configuration import CONFIG_DIR

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "swapping.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def likelihood():
    namespace = {}
    exec(blocks("python")[0], namespace)
    return namespace["SphericalCauchy"]


@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_the_example_integrates_to_one(likelihood, scale):
    cosine, weight = np.polynomial.legendre.leggauss(400)
    u = torch.from_numpy(np.stack([np.sqrt(1 - cosine**2), 0 * cosine, cosine], axis=-1))
    law = likelihood(torch.tensor([0.0, 0.0, 1.0]).double(), torch.full((3,), scale).double())
    mass = (law.log_prob(u).exp().numpy() * weight).sum() * 2 * np.pi
    assert mass == pytest.approx(1, abs=1e-8)


def test_the_example_samples_its_density(likelihood):
    torch.manual_seed(0)
    law = likelihood(torch.eye(5)[0], torch.full((5,), 0.5))
    u = law.sample((50_000,))
    torch.testing.assert_close(u.norm(dim=-1), torch.ones(50_000))
    # E[1/(area p)] over draws is one for the sampler's own density only.
    log_area = np.log(8 * np.pi**2 / 3)
    ratio = (-law.log_prob(u) - log_area).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / len(u) ** 0.5 < 0.1


def test_the_page_names_every_choice_there_is():
    table = PAGE.read_text(encoding="utf-8").split("## A likelihood")[0]
    for group in ("likelihood/direction", "likelihood/radius", "prior", "guide"):
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{group}`"))
        files = {path.stem for path in (CONFIG_DIR / group).glob("*.yaml")}
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == files


@pytest.mark.slow
def test_a_likelihood_from_outside_trains_and_is_evaluated(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    python, yaml = (re.search(rf"`([\w./]+\.{end})`:", page)[1] for end in ("py", "yaml"))
    (tmp_path / yaml).parent.mkdir(parents=True)
    (tmp_path / python).write_text(blocks("python")[0])
    (tmp_path / yaml).write_text(blocks("yaml")[0])
    train, evaluate = blocks("sh")[0].strip().splitlines()
    vje = str(Path(sys.executable).with_name("vje"))
    assert "PYTHONPATH=. vje train" in train
    script = "\n".join(
        [
            "set -e",
            train.replace("vje train", f"{vje} train") + " " + " ".join(f"'{o}'" for o in TINY),
            evaluate.replace("vje evaluate", f"{vje} evaluate") + " --protocols knn-v1",
        ]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/cauchy/results/knn-v1-encoder.json").exists()
    untrusted = evaluate.split(" --trust")[0].replace("vje evaluate", f"{vje} evaluate")
    refused = subprocess.run(
        ["sh", "-c", untrusted], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "--trust spherical_cauchy" in refused.stderr
