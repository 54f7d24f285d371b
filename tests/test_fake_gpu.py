"""Training, evaluation and diagnosis on a GPU that is not there (tests/models/fake_gpu.py)."""

from unittest.mock import patch

import numpy as np
import pyro
import pytest
import torch
from fake_gpu import FACTORISED, GPU, FakeGPU
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch._subclasses import FakeTensorMode

from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.data import ImageArray, Views
from vje_pyro.diagnostics import importance_weights, predictive_check, view_pairs
from vje_pyro.diagnostics.sbc import simulation_based_calibration
from vje_pyro.encoders import SmallResNet
from vje_pyro.evaluation import extract
from vje_pyro.evaluation.protocols import PROTOCOLS
from vje_pyro.evaluation.scorer import Scorer
from vje_pyro.method import evaluating
from vje_pyro.models import ManyViews
from vje_pyro.training.optim import param_groups

D, B = 16, 8
OVERWRITE = "get_overwrite_module_params_on_conversion"
SMALL = ["experiment=digits", "encoder=small_resnet", f"encoder.widths=[8,{D}]",
         "encoder.stem_width=8", "optimizer=sgd", "optimizer.fused=false"]  # fmt: skip
HEADS = {"hidden_dim": 16, "output_dim": 8, "predictor_dim": 16}


def group(name):
    return sorted(path.stem for path in (CONFIG_DIR / name).glob("*.yaml"))


def config(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        made = compose("train", [*SMALL, *overrides])
    made = OmegaConf.merge(made, {"image": {"channels": 3, "size": 8}})
    for name in HEADS.keys() & made.method.keys():
        made.method[name] = HEADS[name]
    return made


VJE = [
    *(f"{kind}={name}" for kind in ("guide", "prior", "objective", "aggregate")
      for name in group(kind)),
    *(f"likelihood/{kind}={name}" for kind in ("direction", "radius")
      for name in group(f"likelihood/{kind}")),
    "method.target_momentum=0.99", "method.projector_dim=8", "method.num_particles=2",
    "latents=student_t",
    f"alignment=conditional alignment.encoder.num_features={D} objective=predictive",
]  # fmt: skip
CASES = [f"method={name}" for name in group("method")] + VJE


def made(case, size=B):
    """Method, views of uint8 images, images and optimiser of a case, on the CPU."""
    torch.manual_seed(0)
    chosen = config(*case.split())
    method = build(chosen.method)
    views = Views(8, [0.5] * 3, [0.2] * 3, blur=0.5, solarize=0.5)
    images = torch.randint(256, (size, 3, 8, 8), dtype=torch.uint8)
    return method, views, images, build(chosen.optimizer)


def step(method, views, images, optimizer, forward_only=False):
    """What the trainer does with a batch; the loss and its parts, as they are logged."""
    with pyro.validation_enabled(False):
        batch = views(images)
        loss = method.loss(batch)
    if not forward_only:
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(0.5)
    scalars = (loss.total.detach(), *loss.parts.values(), *loss.monitors.values())
    return torch.stack([x.float() for x in scalars])


@pytest.mark.parametrize("case", CASES)
def test_steps_on_a_gpu_wait_for_nothing_and_are_those_of_a_cpu(case):
    method, views, images, optimizer = made(case)
    own = optimizer(param_groups(method))
    torch.manual_seed(1)
    wanted = torch.stack([step(method, views, images, own) for _ in range(2)])
    method, views, images, optimizer = made(case)
    with FakeGPU() as gpu:
        method.to(GPU), views.to(GPU)
        images, own = images.to(GPU), optimizer(param_groups(method))
        gpu.waits.clear()
        torch.manual_seed(1)
        found = torch.stack([step(method, views, images, own) for _ in range(2)])
        factorised = "guide=low_rank_normal" in case  # torch's law asks whether it succeeded
        assert gpu.waits == [] or (factorised and set(gpu.waits) == {FACTORISED.__name__})
        torch.testing.assert_close(found.cpu(), wanted)


# torch cannot pretend to draw from the Beta law.
@pytest.mark.parametrize("case", [case for case in CASES if case != "method=mc_infonce"])
def test_a_loss_of_cuda_tensors_reads_no_value(case):
    """Branches that ask for ``cuda``: without values, what reads one is an error."""
    method, views, images, optimizer = made(case)
    with FakeTensorMode() as mode, patch.object(torch.__future__, OVERWRITE, lambda: True):

        def on_cuda(x):
            return mode.from_tensor(x).to("cuda")

        method._apply(on_cuda), views._apply(on_cuda)
        images = on_cuda(images)
        found = step(method, views, images, optimizer, forward_only=True)
        with evaluating(method):
            features = method.embed(views.normalize(images))
        assert found.device.type == features.device.type == "cuda"


class Scaled(torch.autograd.Function):
    """Twice the argument, with a fault in its gradient."""

    @staticmethod
    def forward(ctx, x, fault):
        ctx.fault = fault
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.fault(gradient), None


FAULTS = {
    "tensor of the CPU": lambda x: torch.ones(x.shape),
    "item": lambda x: x.sum().item(),
    "truth": lambda x: 1.0 if x.sum() > 0 else 2.0,
    "nonzero": lambda x: 1.0 + 0.0 * len(x.nonzero()),
    "mask of booleans": lambda x: x[x > 0].sum(),
    "cpu": lambda x: x.cpu().sum(),
    "numpy": lambda x: float(x.detach().cpu().numpy().sum()),
    "tolist": lambda x: x.sum().tolist(),
    "constant from the host": lambda x: torch.tensor(1.0, device=x.device),
    "indices from the host": lambda x: x[[0] * len(x)],
    "success of a factorisation": lambda x: torch.linalg.cholesky(x.T @ x + x.new_ones(2).diag()),
}


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, where):
    with FakeGPU() as gpu:
        x = torch.ones(3, 2, device=GPU, requires_grad=True)
        refused = False
        try:
            if where == "forward":
                x * FAULTS[fault](x)
            else:
                Scaled.apply(x, FAULTS[fault]).sum().backward()
        except RuntimeError:
            refused = True
        assert refused or gpu.waits


def test_the_same_without_a_fault_passes():
    with FakeGPU() as gpu:
        x = torch.ones(3, 2, device=GPU, requires_grad=True)
        (Scaled.apply(x, torch.ones_like) * torch.full((), 3.0, device=GPU)).sum().backward()
        assert gpu.waits == []
        torch.testing.assert_close(x.grad.cpu(), torch.full((3, 2), 6.0))


VALUELESS = ["tensor of the CPU", "item", "truth", "nonzero", "mask of booleans", "tolist"]


@pytest.mark.parametrize("fault", VALUELESS)
def test_a_fault_on_cuda_tensors_without_values_is_an_error(fault):
    with FakeTensorMode():
        x = torch.ones(3, 2, device="cuda")
        with pytest.raises(RuntimeError):
            x * FAULTS[fault](x)


# -------------------------------------------------------------------------- evaluation, diagnosis
#
# A result may be read from the device; no loop may read. So the host waits as often for few
# batches, steps or sweeps as for many.

TRAIN, TEST = 40, 24
CLASSES = torch.arange(TRAIN) % 2


def splits():
    g = torch.Generator().manual_seed(1)
    images = torch.randint(256, (TRAIN + TEST, 3, 8, 8), generator=g, dtype=torch.uint8)
    train, test = images.split([TRAIN, TEST])
    return ImageArray(train, CLASSES), ImageArray(test, CLASSES[:TEST])


def protocol(name):
    def measured(method, views, many):
        train, test = (extract(method, s, views.normalize) for s in splits())
        with (
            patch("vje_pyro.evaluation.knn._SIMILARITIES", TRAIN * TEST // many),
            patch("vje_pyro.evaluation.linear.EPOCHS", many),
        ):
            scores = PROTOCOLS[name](train, test, next(method.parameters()).device)
        return [figure.value for figure in scores.figures.values()]

    return measured


def features(method, views, many):
    return extract(method, splits()[0], views.normalize, TRAIN // many, posterior=True).x


def outlier_scores(method, views, many):
    train, test = splits()
    scorer = Scorer(method, train, views.normalize, views, num_views=2, labelled=False)
    with patch("vje_pyro.diagnostics.aggregate_posterior._ELEMENTS", TRAIN * D // many):
        return scorer(test, TEST // many)["dose"]


def judged_pairs(method, views, many):
    """The checks of a posterior compute on the CPU, whatever embeds the pairs."""
    pairs = view_pairs(method, splits()[0].images, views, batch_size=TRAIN // many)
    importance = importance_weights(pairs, 100).pareto_k
    coverage = predictive_check(pairs, 20).angle.pit
    sizes = {"num_samples": 20, "num_simulations": 25, "num_bins": 5}
    ranks = simulation_based_calibration(pairs, "guide", **sizes).positions
    return np.concatenate([x.flatten() for x in (importance, coverage, ranks)])


def joint_posterior(method, views, many):
    torch.manual_seed(0)
    x = torch.randn(1, 12, 8) + 0.5 * torch.randn(3, 12, 8)
    on = next(method.parameters()).device
    model = ManyViews(8, 4, 8).to(on)
    model.fit(x.to(on), num_steps=4 * many, batch_size=4, num_particles=2, max_views=2)
    with patch("vje_pyro.models.many_views._SWEEPS", 2 * many), torch.no_grad():
        seen = model.coordinates(x.to(on))
        torch.manual_seed(0)
        return torch.cat([model.posterior(seen, 4).mean, model.draw(seen, 3)[0]]).cpu()


LOOPS = {
    **{name: protocol(name) for name in ("knn-v1", "linear-v1", "linear-sgd-v1", "few-label-v1")},
    "features": features,
    "outlier scores": outlier_scores,
    "checks of a posterior": judged_pairs,
    "joint posterior": joint_posterior,
}


def on_the_gpu(loop, many):
    """What a loop gives there, and how often the host waited inside."""
    method, views, *_ = made("objective=conditional")
    with pyro.validation_enabled(False), FakeGPU() as gpu:
        method.to(GPU), views.to(GPU)
        gpu.waits.clear()
        found = loop(method, views, many)
        return found, [name for name in gpu.waits if name != FACTORISED.__name__]


SLOW = ("checks of a posterior", "joint posterior")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in LOOPS]
)
def test_loops_of_the_evaluation_wait_for_nothing_and_give_what_a_cpu_gives(name):
    found, few = on_the_gpu(LOOPS[name], 1)
    _, many = on_the_gpu(LOOPS[name], 2)
    assert few == many
    method, views, *_ = made("objective=conditional")
    with pyro.validation_enabled(False):
        wanted = LOOPS[name](method, views, 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


EVALUATION_FAULTS = {
    "knn-v1": "vje_pyro.evaluation.knn.normalize",
    "linear-sgd-v1": "vje_pyro.evaluation.linear.cross_entropy",
    "outlier scores": "vje_pyro.evaluation.scorer.likelihood_scores",
}


@pytest.mark.parametrize("fault", ["read", "tensor of the CPU"])
@pytest.mark.parametrize("name", EVALUATION_FAULTS)
def test_a_fault_in_a_loop_of_the_evaluation_is_caught(name, fault):
    where = EVALUATION_FAULTS[name]
    module, attribute = where.rsplit(".", 1)
    right = getattr(__import__(module, fromlist=[attribute]), attribute)

    def faulty(*args, **kwargs):
        found = right(*args, **kwargs)
        some = next(iter(found.values())) if isinstance(found, dict) else found
        if fault == "read":
            some.detach().sum().item()
        else:
            some + torch.zeros(some.shape or (1,))
        return found

    with patch(where, faulty):
        if fault == "read":
            assert on_the_gpu(LOOPS[name], 1)[1] != on_the_gpu(LOOPS[name], 2)[1]
        else:
            with pytest.raises(RuntimeError, match="tensors of the GPU and of the CPU"):
                on_the_gpu(LOOPS[name], 1)


class Faulty(SmallResNet):
    """An encoder with a fault."""

    def __init__(self, fault):
        super().__init__(widths=(8, D), stem_width=8)
        self.fault = fault

    def forward(self, images):
        return super().forward(images) * self.fault(images)


# ``item()`` becomes a symbol of the graph; a branch on a value cannot be traced.
COMPILED = {"none": lambda x: 1.0, "branch": lambda x: 2.0 if x.sum() > 0 else 1.0,
            "tensor of the CPU": lambda x: torch.ones(D)}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own compiler
@pytest.mark.parametrize("fault", COMPILED)
def test_a_compiled_encoder_is_one_graph_of_one_device(fault):
    """Its forward and backward pass, traced on ``meta`` without values (AOTAutograd)."""
    torch.compiler.reset()
    encoder = Faulty(COMPILED[fault]).to("meta")
    encoder.compile(backend="aot_eager", dynamic=False, fullgraph=True)
    images = torch.empty(B, 3, 8, 8, device="meta")
    if fault != "none":
        with pytest.raises(Exception, match=r"device|[Dd]ata-dependent"):
            encoder(images)
        return
    encoder(images).square().sum().backward()
    assert {p.grad.device.type for p in encoder.parameters()} == {"meta"}
    torch.compiler.reset()
