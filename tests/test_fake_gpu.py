"""Training steps and features on a GPU that is not there (tests/models/fake_gpu.py)."""

from unittest.mock import patch

import pyro
import pytest
import torch
from fake_gpu import GPU, FakeGPU
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch._subclasses import FakeTensorMode

from vje_pyro.building import build
from vje_pyro.configuration import CONFIG_DIR
from vje_pyro.data import Views
from vje_pyro.method import evaluating
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
        assert gpu.waits == []
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
