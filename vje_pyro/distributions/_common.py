"""What the distributions share: a constraint, a type, and the base of the laws of a direction."""

from typing import ClassVar, Self

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.constraints import Constraint

Shape = torch.Size | list[int] | tuple[int, ...]


class _PositiveFinite(Constraint):
    """Positive and finite: degrees of freedom, where infinity would be another distribution."""

    def check(self, value: Tensor) -> Tensor:
        return (value > 0) & torch.isfinite(value)


positive_finite = _PositiveFinite()


def tensor_like(value: Tensor | float, like: Tensor) -> Tensor:
    """A parameter in another tensor's dtype and on its device, without a copy from the host."""
    if isinstance(value, Tensor):
        return value.to(dtype=like.dtype, device=like.device)
    return torch.full((), value, dtype=like.dtype, device=like.device)


def unit_vector(x: Tensor) -> Tensor:
    r"""The direction :math:`x/\|x\|` of vectors ``(..., D)``, the first axis where x is zero.

    Differentiable any number of times; at zero all derivatives are zero. Nothing waits for the
    device.

    Example:
        >>> unit_vector(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [1.0000, 0.0000]])
    """
    # A vector whose norm underflows counts as zero: it is replaced before anything is divided.
    is_zero = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True) == 0
    first_axis = (torch.arange(x.shape[-1], device=x.device) == 0).to(x.dtype)
    x = torch.where(is_zero, first_axis, x)
    return x / x.norm(dim=-1, keepdim=True)


class Parametric(TorchDistribution):
    """A law with parameters of shape ``(..., D)`` and of shape ``(...)``.

    A subclass names its parameters and options and calls :meth:`_set_parameters`; shapes and
    ``expand`` are then the same for all.
    """

    vector_parameters: ClassVar[tuple[str, ...]] = ()
    scalar_parameters: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()

    def _set_parameters(
        self, loc: Tensor, *, validate_args: bool | None, **parameters: Tensor | float
    ) -> None:
        """Broadcasts the parameters against ``loc``, in its dtype, and sets them."""
        tensors = {"loc": loc} | {name: tensor_like(x, loc) for name, x in parameters.items()}
        batch_shape, event_shape = self.infer_shapes(**{n: x.shape for n, x in tensors.items()})
        self._expand_from(tensors, batch_shape, event_shape)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def _expand_from(
        self, tensors: dict[str, Tensor], batch_shape: torch.Size, event_shape: torch.Size
    ) -> None:
        for name in self.vector_parameters:
            setattr(self, name, tensors[name].expand(batch_shape + event_shape))
        for name in self.scalar_parameters:
            setattr(self, name, tensors[name].expand(batch_shape))

    @classmethod
    def infer_shapes(cls, **shapes: Shape) -> tuple[torch.Size, torch.Size]:
        """``(batch_shape, event_shape)`` from the parameters' shapes, given by name."""
        shape = torch.broadcast_shapes(
            *(s for name, s in shapes.items() if name in cls.vector_parameters),
            *((*s, 1) for name, s in shapes.items() if name in cls.scalar_parameters),
        )
        return shape[:-1], shape[-1:] if cls.vector_parameters else torch.Size()

    def expand(self, batch_shape: Shape, _instance: Self | None = None) -> Self:
        """The same law, of the same class, with parameters expanded to ``batch_shape``."""
        new = self._get_checked_instance(type(self), _instance)
        batch_shape = torch.Size(batch_shape)
        names = self.vector_parameters + self.scalar_parameters
        new._expand_from({n: getattr(self, n) for n in names}, batch_shape, self.event_shape)
        for name in self.options:
            setattr(new, name, getattr(self, name))
        TorchDistribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class Directional(Parametric):
    """A law on the unit sphere."""

    support = constraints.sphere
    vector_parameters = ("loc", "scale")

    def _set_parameters(
        self, loc: Tensor, *, validate_args: bool | None, **parameters: Tensor | float
    ) -> None:
        if loc.dim() < 1 or loc.shape[-1] < 3:
            raise ValueError(
                f"{type(self).__name__} needs directions in at least 3 dimensions, got loc of "
                f"shape {tuple(loc.shape)}. Use a larger embedding."
            )
        super()._set_parameters(loc, validate_args=validate_args, **parameters)

    def _validate_sample(self, value: Tensor) -> None:
        """Refuse, by a ValueError, values that are not directions of this law's dimension."""
        if value.shape[-1:] != self.event_shape:
            raise ValueError(
                f"{type(self).__name__} scores directions of shape {tuple(self.event_shape)}, got "
                f"a value of shape {tuple(value.shape)}."
            )
        check_on_sphere(value, type(self).__name__)
        super()._validate_sample(value)


def check_on_sphere(value: Tensor, name: str) -> None:
    """Refuse, by a ValueError, a value ``(..., D)`` whose norm is not one up to rounding."""
    on_sphere = constraints.sphere.check(value)
    if on_sphere.all():
        return
    norm = value.norm(dim=-1)
    worst = norm.flatten()[(norm - 1).abs().nan_to_num(nan=torch.inf).argmax()].item()
    tolerance = constraints.sphere.reltol * torch.finfo(value.dtype).eps * value.shape[-1] ** 0.5
    raise ValueError(
        f"{name} scores unit vectors, but {(~on_sphere).sum().item()} of {on_sphere.numel()} "
        f"values are off the sphere: the worst norm is {worst:.9g}, the tolerance "
        f"{tolerance:.2g} for {value.dtype} in {value.shape[-1]} dimensions. Normalise them with "
        f"torch.nn.functional.normalize(value, dim=-1), in the dtype of the distribution."
    )


def is_subdensity(law: object) -> bool:
    """Whether the mass of a law is below one, as far as it says."""
    return bool(getattr(law, "is_subdensity", not getattr(law, "normalized", True)))
