"""What the report shows of the embeddings and posteriors of images."""

import itertools
from functools import partial
from typing import Any

import numpy as np
from torch.distributions import Normal

from vje_pyro.inference import EmbeddingModel
from vje_pyro.report import (
    charts,
    gallery,
    plots,
    projection,
)
from vje_pyro.report.collect import (
    Floats,
    Sample,
)

NEIGHBOURS = 8


def show_map(sample: Sample) -> dict[str, Any]:
    """The map: each image where its embedding is projected to, by class and uncertainty."""
    try:
        layout = projection.project(sample.embeddings)
    except ValueError as error:
        return {"missing": str(error)}
    labels = sample.labels[layout.rows]
    present, counts = np.unique(labels[labels >= 0], return_counts=True)
    shown = np.sort(present[np.argsort(-counts, kind="stable")[: len(charts.CLASSES)]])
    names = {int(label): _cut(sample.class_name(int(label)), 24) for label in shown}
    told = [sample.class_name(int(label)) for label in labels]
    points = charts.rows(
        x=layout.points[:, 0],
        y=layout.points[:, 1],
        group=[names.get(int(label), "other") for label in labels],
        told=told,
        picture=np.arange(len(labels)),
    )
    hover = {"picture": "picture", "told": " "}
    section: dict[str, Any] = {
        "kind": layout.kind,
        "n": f"{len(layout.rows):,}",
        "components": layout.components,
        "explained": f"{100 * layout.explained:.0f} %",
        "others": len(present) - len(shown),
        "unlabelled": bool((labels < 0).any()),
        "thumbnails": gallery.thumbnails(sample, layout.rows),
        "entropy": None,
        "legend": list(zip(names.values(), charts.CLASSES, strict=False)),
    }
    axes = ("first component", "second component") if layout.kind == "PCA" else None
    if not _no_posterior(sample):
        assert sample.scale is not None
        nats = gallery.entropy(sample.scale)[layout.rows]
        points = [{**p, "nats": f"{n:.1f}"} for p, n in zip(points, nats, strict=True)]
        hover["nats"] = "entropy [nats]"
        section["entropy"] = _entropy_map(points, nats, hover, axes)
    spots = [(name, _densest(layout.points[labels == label])) for label, name in names.items()]
    section["plot"] = plots.scatter(
        f"{layout.kind} map of {len(layout.rows)} images, coloured by class",
        points,
        list(names.values()),
        charts.CLASSES[: len(names)],
        hover=hover,
        labels=[{"x": float(at[0]), "y": float(at[1]), "text": _cut(t, 16)} for t, at in spots],
        axes=axes,
        size=620,
    )
    return section


def _entropy_map(
    points: charts.Values, nats: Floats, hover: dict[str, str], axes: tuple[str, str] | None
) -> Any:
    """The same map in five classes of posterior entropy, each a fifth of the images."""
    edges = np.quantile(nats, np.linspace(0, 1, len(charts.LEVELS) + 1))
    groups = [f"{low:.1f} to {high:.1f} nats" for low, high in itertools.pairwise(edges)]
    levels = np.searchsorted(edges[1:-1], nats)
    drawn = [{**p, "group": groups[level]} for p, level in zip(points, levels, strict=True)]
    alt = "The same map, coloured by the entropy of the posterior"
    plot = plots.scatter(alt, drawn, groups, charts.LEVELS, hover=hover, axes=axes)
    return {"plot": plot, "legend": list(zip(groups, charts.LEVELS, strict=True))}


def _densest(points: Floats, neighbours: int = 10) -> Floats:
    """The point ``(2,)`` that is nearest to its own nearest points: inside a cluster, always."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = np.sort(distances, axis=1)[:, : neighbours + 1]
    return points[near.mean(axis=1).argmin()]


def show_neighbours(sample: Sample, bank: Sample) -> dict[str, Any]:
    """Some images beside the nearest of a bank, and how often their classes agree."""
    if not (np.isfinite(sample.embeddings).all() and np.isfinite(bank.embeddings).all()):
        return {"missing": "some embeddings are NaN or infinite"}
    if len(bank) < 2:
        return {"missing": "fewer than two images to search in"}
    agreement = gallery.agreement(sample, bank, NEIGHBOURS)
    return {
        "rows": gallery.neighbours(sample, bank, gallery.choose_queries(sample), NEIGHBOURS),
        "labelled": sample.labelled and bank.labelled,
        "bank": bank.name,
        "bank_n": f"{len(bank):,}",
        "bank_total": f"{bank.total:,}",
        "agreement": None if agreement is None else f"{100 * agreement:.1f} %",
    }


def show_certainty(sample: Sample) -> dict[str, Any]:
    """The most and the least certain images."""
    reason = _no_posterior(sample) or ("fewer than two images" if len(sample) < 2 else "")
    if reason:
        return {"missing": reason}
    assert sample.scale is not None
    certain, uncertain = gallery.extremes(sample)
    nats = gallery.entropy(sample.scale)
    low, median, high = (f"{np.quantile(nats, q):.1f}" for q in (0, 0.5, 1))
    told = {"certain": certain, "uncertain": uncertain}
    return told | {"low": low, "median": median, "high": high}


def show_spectrum(sample: Sample) -> dict[str, Any]:
    """Shares of the variance of the embeddings, and their participation ratio."""
    try:
        shares = projection.shares_of_variance(sample.embeddings)
    except ValueError as error:
        return {"missing": str(error)}
    count = len(shares)
    floor = max(float(shares[0]) * 1e-8, 1e-30)
    return {
        "plot": plots.curve(
            np.arange(1, count + 1),
            shares.clip(min=floor),
            x_label="index of the eigenvalue",
            y_label="share of variance",
            reference=(1 / count, f"all directions equal: 1/{count}"),
            log=True,
        ),
        "ratio": f"{projection.participation_ratio(shares):.1f}",
        "features": count,
        "ninety": int(np.searchsorted(np.cumsum(shares), 0.9) + 1),
        "few": len(sample) <= count,
    }


def show_scale(sample: Sample, standard_prior: bool) -> dict[str, Any]:
    """Posterior scales by feature, and KL and active units under a standard normal prior."""
    if reason := _no_posterior(sample):
        return {"missing": reason}
    assert sample.scale is not None
    assert sample.loc is not None
    scale, rank = sample.scale, np.arange(1, sample.scale.shape[1] + 1)
    order = np.argsort(scale.mean(axis=0))
    low, high = (np.quantile(scale, q, axis=0)[order] for q in (0.05, 0.95))
    kl = 0.5 * (sample.loc**2 + scale**2 - 1 - 2 * np.log(scale)).mean(axis=0)
    ranked = partial(plots.curve, rank, x_label="rank of the feature")
    section: dict[str, Any] = {
        "histogram": plots.histogram(
            scale,
            "posterior scale σ",
            reference=(1.0, "prior σ = 1") if standard_prior else None,
            log=True,
        ),
        "features": ranked(
            scale.mean(axis=0)[order], y_label="σ, mean over images", band=(low, high)
        ),
        "kl": None,
        "median": f"{np.median(scale):.3g}",
        "count": len(rank),
    }
    if standard_prior:
        section["kl"] = {
            "plot": ranked(np.sort(kl), y_label="nats per feature", limits=(0.0, None)),
            "inactive": int((kl < 0.01).sum()),
            "total": f"{kl.sum():.1f}",
        }
    return section


def has_standard_prior(method: Any) -> bool:
    """Whether the method's latent has the standard normal prior."""
    if not isinstance(method, EmbeddingModel):
        return False
    law = getattr(method.prior_distribution(), "base_dist", None)
    return isinstance(law, Normal) and bool((law.loc == 0).all() and (law.scale == 1).all())


def _no_posterior(sample: Sample) -> str:
    if sample.scale is None or sample.loc is None:
        return "this method has no posterior (it gives points, not distributions)"
    if not (np.isfinite(sample.loc).all() and np.isfinite(sample.scale).all()):
        return "some posterior means or scales are NaN or infinite"
    if (sample.scale <= 0).any():
        return "some posterior scales are zero"
    return ""


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
