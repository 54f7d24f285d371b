"""A GPU that is not there: tensors of another device with values, which computes on the CPU.

torch's ``FakeTensorMode`` has tensors of ``cuda`` without values: whatever reads one is an error,
and the backward pass needs a driver. :class:`FakeGPU` stands beside it: its device has torch's name
``meta``, its tensors hold their values on the CPU, and the backward pass works. What a GPU would
refuse is refused, and what it would have to wait for is written down.
"""

from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("meta")
aten = torch.ops.aten
FACTORISED = aten._linalg_check_errors
READS = {aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select,
         aten._unique2, aten.unique_dim, aten.unique_consecutive, FACTORISED}  # fmt: skip
"""Values that are read, and shapes that depend on values: the host waits. A factorisation reads
whether it succeeded."""

INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_,
            aten._unsafe_index, aten._unsafe_index_put}  # fmt: skip
"""Indices may lie on the host, whence they are copied; those of booleans are counted first."""


class OnGPU(Tensor):
    """A tensor of the device, whose values are ``held`` on the CPU."""

    @staticmethod
    def __new__(cls, held):
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=GPU,
        )  # fmt: skip
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} outside of the block of a FakeGPU")


class FakeGPU(TorchDispatchMode):
    """In its block, ``meta`` is a GPU.

    Attributes:
        waits: Names of the operators that the host would have waited for.
    """

    def __init__(self):
        super().__init__()
        self.waits = []

    def __enter__(self):
        with ExitStack() as stack:
            stack.enter_context(patch("torch.autocast", _Autocast))
            stack.enter_context(_Values())
            self._patches = stack.pop_all()
        return super().__enter__()

    def __exit__(self, *error):
        self._patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, OnGPU)]
        target = kwargs.get("device")
        on_gpu = bool(there) if target is None else torch.device(target) == GPU
        self._check(func.overloadpacket, tensors, there, target, on_gpu, kwargs)
        if target is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        held = tree_map_only(OnGPU, lambda x: x.held, (args, kwargs))
        result = func(*held[0], **held[1])
        if not on_gpu:
            return result
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, OnGPU, result))

    def _check(self, name, tensors, there, target, on_gpu, kwargs):
        if name in READS and there:
            self.waits.append(name.__name__)
        elif name in (aten._to_copy, aten.copy_):
            crosses = 0 < len(there) < len(tensors) or (
                target and tensors and on_gpu != bool(there)
            )
            if crosses and not kwargs.get("non_blocking"):
                self.waits.append(name.__name__)
        elif name in INDEXING and there:
            values, *indices = tensors
            if not isinstance(values, OnGPU):
                raise RuntimeError(f"{name}: values of the CPU, indices of the GPU")
            if any(x.dtype is torch.bool or not isinstance(x, OnGPU) for x in indices if x.dim()):
                self.waits.append(name.__name__)
        elif there and any(x.dim() and not isinstance(x, OnGPU) for x in tensors):
            raise RuntimeError(f"{name}: tensors of the GPU and of the CPU")


class _Values(TorchFunctionMode):
    """Values go to the device and come from it by a copy, which torch leaves out of ``meta``."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.tolist and isinstance(args[0], OnGPU):
            return args[0].cpu().tolist()
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            on = kwargs.pop("device", args[0].device if func is Tensor.new_tensor else None)
            if func is torch.as_tensor and isinstance(args[0], Tensor):
                return args[0].to(on, kwargs.get("dtype"))
            make = torch.tensor if func is Tensor.new_tensor else func
            made = make(*args[func is Tensor.new_tensor :], **kwargs)
            return made if on is None else made.to(on)
        return func(*args, **kwargs)


class _Autocast(torch.autocast):
    """Of a device that torch does not know as one: nothing."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == GPU.type else device_type, *args, **kwargs)
