"""The symmetric ELBO: every ordered pair of views is one datum, and the data are averaged."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled, torch_item
from pyro.util import check_model_guide_match
from torch import Tensor, nn
from torch.distributions import kl_divergence

from vje_pyro.inference.registering import listener, register

PLATE = "data"
"""Name of the plate that the ELBO is averaged over."""

_NESTING = 2
"""Plates of a program: the data, and inside it the views of an image."""


def ordered_pairs(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Source and target embeddings of every ordered pair of different views.

    Args:
        embeddings: Shape ``(V, B, D)``, V at least 2.

    Returns:
        Two tensors of shape ``(V (V − 1) B, D)``; of two views ``[s1; s2]`` and ``[s2; s1]``.

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

        \mathcal L = \frac1N \sum_{n=1}^N \Big( \sum_j E_q \log p(x_{nj} \mid z_n, \theta)
                     - \beta\, KL\big(q(z_n)\,\|\,p(z_n)\big) \Big)
                     - \frac\beta N KL\big(q(\theta)\,\|\,p(\theta)\big)

    with global latents θ, if there are any. It is symmetric when the plate holds both orders of
    every pair (:func:`ordered_pairs`). Observed sites give the expected log-likelihoods, latent
    sites the KL; where no analytic KL is registered, it raises. Nothing in it moves a value to the
    host.

    ``SymmetricELBO()(model, guide)`` is a module for torch's optimisers. ``pyro.infer.SVI`` trains
    what is registered with Pyro: parameters of :class:`~vje_pyro.inference.ViewPrograms`, and of
    modules whose bound methods are model and guide. Training that would train nothing is an error.

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
        super().__init__(num_particles, max_plate_nesting=_NESTING, vectorize_particles=True)
        self.beta = beta
        self.kl = kl

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(
            *args, **kwargs
        )
        _check_latents(model_trace, guide_trace)
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace)
        return model_trace, guide_trace

    def terms(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> dict:
        """ELBO terms of every datum, in nats, each of shape ``(N,)``, means over the particles.

        The keys are the names of the observed sites (their expected log-likelihoods) and ``"kl"``
        (not multiplied by beta). A site in further plates inside that of the data is summed over
        them. A site outside the plate of the data counts once: every datum has its share, one over
        the size of the whole data set.

        Raises:
            NotImplementedError: If no analytic KL is registered for a latent site and
                ``kl="analytic"``.
            ValueError: If no site is in a plate named ``data``, or the guide leaves a latent out.
        """
        terms = self.particle_terms(model, guide, *args, **kwargs)
        return {name: value.mean(0) for name, value in terms.items()}

    def particle_terms(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> dict:
        """The same of every particle, ``(S, N)``, or ``(1, N)`` where they are one for all."""
        ((model_trace, guide_trace),) = self._get_traces(model, guide, args, kwargs)
        sites = {name: site for name, site in model_trace.nodes.items() if _is_random(site)}
        frame = next((f for f in map(_data_frame, sites.values()) if f), None)
        if frame is None:
            raise ValueError(
                f"no site of the model is in pyro.plate('{PLATE}', …), whose data the symmetric "
                f"ELBO averages over; the sites are {list(sites)}."
            )
        terms: dict[str, Tensor] = {}
        kls = []
        for name, site in sites.items():
            if site["is_observed"]:
                terms[name] = self._per_datum(_log_prob(site), site, frame)
            else:
                kls.append(self._per_datum(self._kl(guide_trace.nodes[name], site), site, frame))
        terms["kl"] = sum(kls[1:], kls[0]) if kls else torch.zeros_like(next(iter(terms.values())))
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

    def _per_datum(self, value: Tensor, site: dict, data: Any) -> Tensor:
        """Share of every datum of the plate in a site's value, ``(S, N)`` or ``(1, N)``."""
        # The particles' plate is outside of all others.
        if value.dim() <= _NESTING:
            value = value[None]
        if _data_frame(site) is None:
            return (value.reshape(len(value), -1).sum(1, keepdim=True) / data.full_size).expand(
                -1, data.size
            )
        value = value.expand(*value.shape[:-1], data.size)
        # Summed over the views; the plate scales a mini-batch up to the whole data set.
        share = data.size / data.full_size
        return share * value.reshape(len(value), -1, data.size).sum(1)

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
            register(module)
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        svi = listener()
        if svi is not None and not svi.trace.nodes:
            raise ValueError(
                "nothing would be trained: neither model nor guide has a parameter that Pyro knows "
                "of. Register their modules with pyro.module inside the program."
            )
        loss.backward(retain_graph=self.retain_graph)
        return torch_item(loss)


def _check_latents(model_trace: Any, guide_trace: Any) -> None:
    sampled = [name for name, site in guide_trace.nodes.items() if _is_random(site)]
    for name, site in model_trace.nodes.items():
        if _is_random(site) and not site["is_observed"] and name not in sampled:
            raise ValueError(
                f"the model's latent site '{name}' is not in the guide, which samples {sampled}: "
                f"give the guide a site of this name, or sum over it with "
                f"pyro.infer.TraceEnum_ELBO."
            )


def _is_random(site: dict) -> bool:
    """Whether a site is a random variable, not a subsample or ``pyro.deterministic``."""
    if site["type"] != "sample" or site["infer"].get("_deterministic"):
        return False
    return type(site["fn"]).__name__ != "_Subsample"


def _data_frame(site: dict) -> Any:
    """The plate of the data that a site is in, or None."""
    return next((f for f in site["cond_indep_stack"] if f.name == PLATE), None)


def _log_prob(site: dict) -> Tensor:
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, site["scale"], site["mask"])


def _owners(functions: Iterable[Callable]) -> list[nn.Module]:
    """The distinct modules that the functions are, or are methods of."""
    owners = [getattr(function, "__self__", function) for function in functions]
    return list(dict.fromkeys(o for o in owners if isinstance(o, nn.Module)))
