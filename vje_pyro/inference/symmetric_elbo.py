"""The symmetric ELBO: every ordered pair of views is one datum, and the data are averaged."""

from collections.abc import Callable, Iterable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled, torch_item
from pyro.util import check_model_guide_match
from torch import Tensor, nn
from torch.distributions import kl_divergence


def ordered_pairs(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Source and target embeddings of every ordered pair of different views.

    Two views give ``source = [s1; s2]`` and ``target = [s2; s1]``.

    Args:
        embeddings: Shape ``(V, B, D)``, V at least 2.

    Returns:
        Two tensors of shape ``(V (V − 1) B, D)``.

    Raises:
        ValueError: If there are fewer than two views.

    Example:
        >>> source, target = ordered_pairs(torch.tensor([[[1.0]], [[2.0]]]))
        >>> source.flatten().tolist(), target.flatten().tolist()
        ([1.0, 2.0], [2.0, 1.0])
    """
    if embeddings.dim() != 3 or len(embeddings) < 2:
        raise ValueError(
            f"ordered_pairs needs embeddings (V, B, D) of at least two views, got shape "
            f"{tuple(embeddings.shape)}."
        )
    num_views = len(embeddings)
    shifts = range(1, num_views)
    source = embeddings.repeat(num_views - 1, 1, 1)
    target = torch.cat([embeddings.roll(-shift, dims=0) for shift in shifts])
    return source.flatten(0, 1), target.flatten(0, 1)


class SymmetricELBO(ELBO):
    r"""ELBO with the analytic KL and an explicit weight on it, averaged over a plate of data.

    .. math::

        \mathcal L = \frac1N \sum_{n=1}^N \Big( \sum_j E_q \log p(x_{nj} \mid z_n)
                     - \beta\, KL\big(q(z_n)\,\|\,p(z_n)\big) \Big)

    It is symmetric when the plate holds both orders of every pair (:func:`ordered_pairs`). It knows
    sites, not models: observed sites give the expected log-likelihoods, latent sites the KL.
    Where ``TraceMeanField_ELBO`` falls back to sampling without a word when no analytic KL is
    registered, this class raises; and nothing in it moves a value to the host.

    The training path is ``SymmetricELBO()(model, guide)``, a module to be used with a torch
    optimiser. With classic ``pyro.infer.SVI``, pass bound methods or modules as model and guide:
    their module's parameters, the encoder's among them, are registered with Pyro.

    Source: symmetric conditional ELBO of Oji & Fieguth (arXiv 2602.05639); the analytic KL as in
    Kingma & Welling (arXiv 1312.6114), β as in Higgins et al. (ICLR 2017).

    Args:
        beta: Weight of the KL, non-negative; 1 is the bound itself.
        num_particles: Latent samples per datum, drawn in one vectorised pass.
        kl: ``"analytic"``, or ``"sample"`` for priors and guides with no registered KL.

    Raises:
        ValueError: If ``beta`` is negative, ``num_particles`` below one or ``kl`` unknown.
    """

    def __init__(self, beta: float = 1.0, num_particles: int = 1, kl: str = "analytic") -> None:
        if not 0 <= beta < float("inf"):
            raise ValueError(f"beta must be finite and not negative, got {beta}.")
        if num_particles < 1:
            raise ValueError(f"num_particles must be at least 1, got {num_particles}.")
        if kl not in ("analytic", "sample"):
            raise ValueError(f"kl must be 'analytic' or 'sample', got {kl!r}.")
        super().__init__(num_particles, max_plate_nesting=1, vectorize_particles=True)
        self.beta = beta
        self.kl = kl

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(
            *args, **kwargs
        )
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace)
        return model_trace, guide_trace

    def terms(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> dict:
        """ELBO terms of every datum, in nats, each of shape ``(N,)``, means over the particles.

        The keys are the names of the observed sites (their expected log-likelihoods) and ``"kl"``
        (not multiplied by beta).

        Raises:
            NotImplementedError: If no analytic KL is registered for a latent site and
                ``kl="analytic"``.
        """
        ((model_trace, guide_trace),) = self._get_traces(model, guide, args, kwargs)
        terms: dict[str, Tensor] = {}
        kl: Tensor | float = 0.0
        for name, site in model_trace.nodes.items():
            if not _is_random(site):
                continue
            if site["is_observed"]:
                terms[name] = self._mean_over_particles(_log_prob(site))
            elif name in guide_trace.nodes:
                kl = kl + self._mean_over_particles(self._kl(guide_trace.nodes[name], site))
        terms["kl"] = torch.as_tensor(kl)
        return terms

    def _kl(self, guide_site: dict, model_site: dict) -> Tensor:
        if self.kl == "sample":
            return _log_prob(guide_site) - _log_prob(model_site)
        try:
            kl = kl_divergence(guide_site["fn"], model_site["fn"])
        except NotImplementedError:
            raise NotImplementedError(
                f"No analytic KL from {guide_site['fn']} to {model_site['fn']} at site "
                f"'{model_site['name']}': use SymmetricELBO(kl='sample'), or register one with "
                f"torch.distributions.register_kl."
            ) from None
        return scale_and_mask(kl, model_site["scale"], model_site["mask"])

    def _mean_over_particles(self, log_prob: Tensor) -> Tensor:
        return log_prob.mean(0) if self.num_particles > 1 else log_prob

    def per_datum(self, terms: dict[str, Tensor]) -> Tensor:
        """ELBO of every datum, shape ``(N,)``, from :meth:`terms`."""
        return sum(v for k, v in terms.items() if k != "kl") - self.beta * terms["kl"]

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Minus the mean ELBO over the data, in nats: a scalar with gradient."""
        return -self.per_datum(self.terms(model, guide, *args, **kwargs)).mean()

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss as a number, without gradient."""
        with torch.no_grad():
            return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """Called by ``pyro.infer.SVI``: the loss as a number, after a backward pass."""
        for module in _owners((model, guide)):
            # SVI steps only the parameters that it sees as param sites. Embeddings are computed
            # before model and guide run, so the encoder would silently stay as it is.
            _register(module)
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward(retain_graph=self.retain_graph)
        return torch_item(loss)


def _is_random(site: dict) -> bool:
    """Whether a site is a random variable, not a subsample or ``pyro.deterministic``."""
    if site["type"] != "sample" or site["infer"].get("_deterministic"):
        return False
    return type(site["fn"]).__name__ != "_Subsample"


def _register(module: nn.Module) -> None:
    """Makes what is trained param sites under the class name, as ``pyro.module`` does."""
    store, name = pyro.get_param_store(), type(module).__name__
    for key, parameter in module.named_parameters():
        held = dict.get(store._params, f"{name}$$${key}", parameter)
        if held is not parameter:
            raise ValueError(
                f"Pyro's parameter store already holds another {name} (parameter '{key}'), and SVI "
                f"would train that one: call pyro.clear_param_store() before training a new model."
            )
        if parameter.requires_grad:
            pyro.param(f"{name}$$${key}", parameter)


def _log_prob(site: dict) -> Tensor:
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, site["scale"], site["mask"])


def _owners(functions: Iterable[Callable]) -> list[nn.Module]:
    """The distinct modules that the functions are, or are methods of."""
    owners = [getattr(function, "__self__", function) for function in functions]
    return list(dict.fromkeys(o for o in owners if isinstance(o, nn.Module)))
