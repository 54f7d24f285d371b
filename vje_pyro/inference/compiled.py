"""A Pyro program as one compiled function: what runs is the program, recorded once."""

from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch._dynamo import lookup_backend
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.fx import Graph, GraphModule
from torch.utils._pytree import TreeSpec, tree_leaves, tree_structure, tree_unflatten


class CompiledProgram:
    """``function(module, *tensors)`` as one graph for every shape of the tensors, with gradients.

    TorchDynamo cannot read Pyro's handlers and would break the graph at every site. It is left
    out: AOTAutograd runs the function once on tensors without values, Pyro and all, and the
    operations that it sees are compiled, forward and backward. Pyro's own ``JitTrace_ELBO`` does
    so with an older tool. The Pyro program stays the definition of the model, and like there its
    structure may depend on the shapes of tensors, not on their values; Python numbers stay those
    of the first call, and nothing is validated.

    Random numbers are drawn as without compilation, from the same seed the same ones. What is not
    a training step (evaluation mode, no gradient) is not compiled.

    Args:
        module: What the parameters and buffers belong to.
        function: Takes ``module`` and tensors; gives tensors, or tuples and dictionaries of them.
        parts: Submodules of ``module`` that the function uses; it cannot train others.
        backend: Name of a backend of ``torch.compile``.

    Source: this project.
    """

    def __init__(
        self,
        module: nn.Module,
        function: Callable[..., Any],
        parts: tuple[str, ...],
        backend: str = "inductor",
    ) -> None:
        self.module = module
        self.call = _Call(module, function)
        self.prefixes = tuple(f"module.{part}." for part in parts)
        self.backend = backend
        self.graphs: dict[Any, tuple[Callable[..., Any], TreeSpec]] = {}

    def __call__(self, *tensors: Tensor) -> Any:
        """What the function gives."""
        if not (self.module.training and torch.is_grad_enabled()):
            return self.call(*tensors)
        state = dict(self._state())
        inputs = [*state.values(), *tensors]
        key = tuple((x.shape, x.stride(), x.dtype, x.device, x.requires_grad) for x in inputs)
        if key not in self.graphs:
            with pyro.validation_enabled(False):  # there are no values to check
                self.graphs[key] = self._compile(tuple(state), inputs)
        graph, structure = self.graphs[key]
        return tree_unflatten(list(graph(*inputs)), structure)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for tensors in (self.call.named_parameters(), self.call.named_buffers()):
            yield from ((name, x) for name, x in tensors if name.startswith(self.prefixes))

    def _compile(
        self, names: tuple[str, ...], inputs: list[Tensor]
    ) -> tuple[Callable[..., Any], TreeSpec]:
        def run(*inputs: Tensor) -> Any:
            state = dict(zip(names, inputs, strict=False))
            return functional_call(self.call, state, inputs[len(names) :])

        examples = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as fake:
            structure = tree_structure(run(*(fake.from_tensor(x) for x in examples)))

        graph = Graph()  # of one node, which AOTAutograd looks into
        node = graph.call_function(
            lambda *inputs: tree_leaves(run(*inputs)),
            tuple(graph.placeholder(f"x{number}") for number in range(len(inputs))),
        )
        leaves = range(structure.num_leaves)
        graph.output(tuple(graph.call_function(getitem, (node, leaf)) for leaf in leaves))
        compile_graph = lookup_backend(self.backend)
        with torch._inductor.config.patch(fallback_random=True):  # the same random numbers
            compiled = compile_graph(GraphModule(nn.Module(), graph), examples)
        return compiled, structure


class _Call(nn.Module):
    """A function of a module and of arguments, as a module."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(self.module, *args)
