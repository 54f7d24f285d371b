"""The diagnostics section: what ``vje diagnose`` wrote, as tables and plots."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from vje_pyro.errors import CheckpointError
from vje_pyro.reading import JsonFormat, damaged, read_npz
from vje_pyro.report import charts
from vje_pyro.report.collect import Floats
from vje_pyro.statistics import Figure, parts
from vje_pyro.training.run_dir import RunDir

SCHEMA, SCHEMA_VERSION = "vje-pyro-diagnostics", 2


class Diagnostics(BaseModel):
    """What of the content of diagnostics.json is shown."""

    model_config = ConfigDict(strict=True)

    checks: dict[str, dict[str, Any]]
    images: dict[str, int]
    seed: int
    created: str
    posterior: str = "of one view"


_ADVICE = "Run vje diagnose again."
_FORMAT = JsonFormat(Diagnostics, missing="", advice=_ADVICE, schema=SCHEMA, version=SCHEMA_VERSION)

Arrays = dict[str, np.ndarray]
Panel = dict[str, Any]
Block = Callable[[dict[str, Any], Arrays], Panel]


def section(run: Path) -> dict[str, Any]:
    """What the template shows; ``missing`` says what is wrong with the files, if anything is."""
    directory = RunDir(run)
    path = directory.diagnosis
    if not path.exists():
        return {"missing": "", "blocks": []}
    try:
        content = _FORMAT.read(path)
        blocks = _blocks(path, content.checks, read_npz(directory.diagnosis_arrays))
    except CheckpointError as error:
        return {"missing": f"the files of vje diagnose could not be read: {error}"}
    return {
        "missing": "",
        "blocks": blocks,
        "images": content.images,
        "posterior": content.posterior,
        "seed": content.seed,
        "created": content.created,
    }


def _blocks(path: Path, checks: dict[str, dict[str, Any]], arrays: Arrays) -> list[Panel]:
    try:
        found = [block(checks[name], arrays) for name, block in _BLOCKS.items() if checks.get(name)]
        said = _verdicts(checks)
    except MemoryError:
        raise
    except Exception as error:
        # Tables and plots take figures and arrays as they are; what a wrong one leads to is open.
        raise damaged(path, error, _ADVICE) from error
    return [said, *found] if said else found


def _verdicts(checks: dict[str, Any]) -> Panel | None:
    rows = [
        (name, f"{'found' if verdict['flagged'] else 'passed'}: {verdict['text']}")
        for name, check in checks.items()
        if (verdict := check.get("verdict"))
    ]
    if not rows:
        return None
    return {
        "title": "What the checks say",
        "text": "A check that passes has found no fault of its kind; the page on diagnostics has a "
        "table of which check catches which. Each flags a true model with about 1 % at most.",
        "rows": rows,
        "panels": [],
    }


def _importance(check: dict[str, Any], arrays: Arrays) -> Panel:
    bounds = {int(k): figure for k, figure in check["bounds"].items()}
    numbers = sorted(bounds)
    ends = np.array([[bounds[k][end] for end in ("value", "low", "high")] for k in numbers])
    k_hat = arrays["importance/pareto_k"]
    rows = [
        ("data with k-hat above 0.7", _figure(check["pareto_k_above_0.7"], percent=True)),
        ("effective share of the draws", _figure(check["ess_fraction"], percent=True)),
        ("nats from the ELBO to the best bound", _figure(check["elbo_to_bound"])),
    ]
    return {
        "title": "Is the guide the posterior?",
        "text": "Importance weights of the guide, datum by datum, never pooled. Where the guide "
        "sees one view and the likelihood scores the other (objective=conditional), the exact "
        "posterior knows more than the guide, and a gap is in the nature of the model; a posterior "
        "of all views is judged in the model of all of them. Up to a k-hat of 0.7 the guide's "
        "draws can be corrected by their weights.",
        "rows": rows,
        "panels": [
            ("Pareto k-hat", charts.histogram(k_hat, "k-hat of a datum",
             reference=(0.7, "0.7")), "Above 0.7 the guide misses part of the posterior."),
            ("Importance-weighted bound", charts.chart(f"Bound: from {ends[0, 0]:.4g} to "
             f"{ends[-1, 0]:.4g}", charts.interval_layers(numbers, ends, "bound [nats]"),
             charts.Axis("draws K", log=10, values=numbers), charts.Axis("bound [nats]")),
             "K = 1 is the ELBO; with K the bound rises to the log evidence. Bars are 95 % "
             "intervals over images."),
        ],
    }  # fmt: skip


def _block_importance(check: dict[str, Any], arrays: Arrays) -> Panel:
    k_hat = arrays["blocks/pareto_k"]
    medians = [np.inf if k is None else k for k in check["pareto_k_median"]]
    worst = int(np.argmax(medians))
    return {
        "title": "Which features does the guide have wrong?",
        "text": "k-hat of a few features at a time, the others held at a draw of the guide. It "
        "says where the guide is off when k-hat of all features together is large.",
        "rows": [
            ("blocks with a median k-hat above 0.7",
             f"{sum(k > 0.7 for k in medians)} of {len(medians)}"),
            ("worst block, its median k-hat", f"{check['blocks'][worst]}, {medians[worst]:.2f}"),
        ],
        "panels": [
            ("k-hat of blocks", charts.histogram(k_hat, "k-hat of a block",
             reference=(0.7, "0.7")), "A value is a block of features of a datum."),
        ],
    }  # fmt: skip


def _amortisation(check: dict[str, Any], arrays: Arrays) -> Panel:
    gap = arrays["amortisation/optimised"] - arrays["amortisation/amortised"]
    return {
        "title": "What does amortisation cost?",
        "text": "For each datum a Gaussian of its own was fitted to the same bound, knowing the "
        "target that the guide does not see. The gap holds both what the network loses and what "
        "the target tells.",
        "rows": [
            ("ELBO of the guide [nats]", _figure(check["elbo_amortised"])),
            ("ELBO of the fitted Gaussians [nats]", _figure(check["elbo_optimised"])),
            ("gap [nats]", _figure(check["gap"])),
        ],
        "panels": [
            ("Gap by datum", charts.histogram(gap, "gap [nats]"), "Nats of a datum that "
             "its own fit gains."),
        ],
    }  # fmt: skip


def _latent(check: dict[str, Any], arrays: Arrays) -> Panel:
    return {
        "title": "How is the latent used?",
        "text": "The mean KL to the prior is what z tells about which image it is (mutual "
        "information, at most the logarithm of the number of data) plus how far the aggregate "
        "posterior is from the prior. Whether the model listens is another question: the gains say "
        "how much likelier the target is than with z, or the directional scale, of another image.",
        "rows": [
            ("KL to the prior [nats]", _figure(check["kl"])),
            ("mutual information [nats]", _figure(check["mutual_information"])
             + f", at most {check['mutual_information_limit']:.2f}"),
            ("KL of the aggregate posterior [nats]", _figure(check["aggregate_kl"])),
            ("active units", f"{check['active_units']} of {len(check['mean_variance'])}"),
            ("gain by z [nats]", _figure(check["latent_gain"])),
            ("gain by the scale [nats]", _figure(check["scale_gain"])),
        ],
        "panels": [],
    }  # fmt: skip


def _nuts(check: dict[str, Any], arrays: Arrays) -> Panel:
    mean, guide_mean = arrays["nuts/mean"].ravel(), arrays["nuts/guide_mean"].ravel()
    scale, guide_scale = arrays["nuts/scale"].ravel(), arrays["nuts/guide_scale"].ravel()
    difference, ratio = check["abs_difference_quantiles_50_95"], check["ratio_quantiles_5_50_95"]
    return {
        "title": "The guide beside NUTS",
        "text": f"The exact posterior of {check['num_data']} data by NUTS "
        f"({check['num_chains']} chains, {check['num_draws']} draws each; R-hat at most "
        f"{check['r_hat_max']:.3f}, {check['divergences']} divergences). A point is a feature of "
        "a datum.",
        "rows": [
            ("|difference of means| in exact standard deviations, median and 95 %",
             f"{difference[0]:.2f}, {difference[1]:.2f}"),
            ("guide's scale over the exact one, 5 %, median, 95 %",
             ", ".join(f"{r:.2f}" for r in ratio)),
            ("overlap of the marginals, 5 % and median",
             ", ".join(f"{o:.2f}" for o in check["overlap_quantiles_5_50"])),
        ],
        "panels": [
            ("Means", _against(mean, guide_mean, "mean by NUTS",
             "mean of the guide"), "On the diagonal both agree."),
            ("Scales", _against(scale, guide_scale, "scale by NUTS",
             "scale of the guide"), "Below the diagonal the guide is too sure."),
        ],
    }  # fmt: skip


def _c2st(check: dict[str, Any], arrays: Arrays) -> Panel:
    low, high = 100 * check["null_low"], 100 * check["null_high"]
    return {
        "title": "Can a classifier tell the guide from NUTS?",
        "text": "A logistic regression on standardised draws and their squares, learned from all "
        "images but one and judged on that one. If guide and posterior are one law it is right in "
        "half of the cases.",
        "rows": [
            ("accuracy", f"{100 * check['accuracy']:.1f} %"),
            ("by chance, 99 %", f"{low:.1f} to {high:.1f} %"),
            ("p-value, over images", f"{check['p_value']:.2g} of {check['num_images']} images"),
        ],
        "panels": [],
    }


def _features(title: str) -> Block:
    def block(check: dict[str, Any], arrays: Arrays) -> Panel:
        pit = dict(zip(check["quantities"], np.array(check["histogram"]), strict=True))
        wrong = [q for q, found in zip(check["quantities"], check["found"], strict=True) if found]
        features = [counts for q, counts in pit.items() if ":" not in q]
        *_, (whole, counts) = pit.items()
        return {
            "title": title,
            "text": f"Every feature of the other view's embedding, and the distance of every block "
            f"of features, ranked among {check['num_draws']} draws of the {check['kind']} "
            "predictive: uniform under a true model.",
            "rows": [
                ("features not as predicted, false discovery rate 1 %",
                 f"{sum(':' not in q for q in wrong)} of {len(features)}"),
                ("blocks not as predicted",
                 f"{sum(':' in q for q in wrong)} of {len(pit) - len(features)}"),
            ],
            "panels": [
                ("PIT of all features", _ranks(np.sum(features, 0), "PIT of a feature"),
                 "Pooled, for the shape only: features depend on each other, so the band is too "
                 "narrow. A full middle means predictions wider than the data, full ends narrower "
                 "ones."),
                (f"PIT of the distance of {whole}", _ranks(counts, "PIT of the distance"),
                 "To the left, all features together lie nearer to their predictions than these "
                 "say, to the right farther."),
            ],
        }  # fmt: skip

    return block


def _sbc(title: str, text: str) -> Block:
    def block(check: dict[str, Any], arrays: Arrays) -> Panel:
        histograms = dict(zip(check["quantities"], check["histogram"], strict=True))
        shown = [q for q in histograms if not q.startswith("z[")]
        coordinates = np.array([h for q, h in histograms.items() if q.startswith("z[")])
        verdict = "compatible with calibration" if check["calibrated"] else "not calibrated"
        pooled = _ranks(coordinates.sum(0), "rank of a coordinate of z")
        panels = [
            ("All coordinates of z", pooled, "Pooled, for the shape only: coordinates depend on "
             "each other, so the band is too narrow here. Full ends mean a posterior that is too "
             "narrow, a full middle one that is too wide."),
        ]  # fmt: skip
        for quantity in shown:
            plot = _ranks(np.array(histograms[quantity]), f"rank of {quantity}")
            panels.append((f"Rank of {quantity}", plot, "Within the band with 99 % each."))
        return {
            "title": title,
            "text": text,
            "rows": [
                ("verdict at 1 %", f"{verdict} (p = {check['p_value']:.2g}, Bonferroni over "
                 f"{len(histograms)} quantities)"),
                ("simulations, draws of each", f"{check['num_simulations']}, {check['num_draws']}"),
                *([("largest R-hat, divergences", f"{check['r_hat_max']:.2f}, "
                    f"{check['divergences']}")] if check["r_hat_max"] is not None else []),
            ],
            "panels": panels,
        }  # fmt: skip

    return block


def _predictive(check: dict[str, Any], arrays: Arrays) -> Panel:
    rows, panels = [], []
    for name, unit in (("angle", "degrees"), ("radius", "embedding norm")):
        if check[name] is None:
            continue
        mean = check[name]["statistics"]["mean"]
        rows.append(
            (f"mean {name} [{unit}]: observed; replicated [95 %]",
             f"{mean['observed']:.2f}; {mean['value']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"
             f" (p = {mean['p_value']:.2g})"),
        )  # fmt: skip
        pit = check[name]["pit"]
        counts = np.array(pit["histogram"]) * check[name]["num_data"]
        observed = arrays[f"posterior_predictive/{name}/observed"]
        draws = arrays[f"posterior_predictive/{name}/draws"].ravel()
        panels += [
            (f"The {name}, observed and replicated",
             charts.histogram(observed, f"{name} [{unit}]", outline=draws),
             "Filled: held-out views. Outline: drawn from the model."),
            (f"PIT of the {name}", _ranks(counts, f"PIT of the {name}"),
             f"Level if the predictions are calibrated (Kolmogorov–Smirnov p = "
             f"{pit['p_value']:.2g}). A full middle means predictions wider than the data."),
        ]  # fmt: skip
    return {
        "title": "Does the model predict the other view?",
        "text": "Posterior predictive draws of the target's angle to its predicted direction, and "
        "of its radius, on held-out images.",
        "rows": rows,
        "panels": panels,
    }


def _temperature(check: dict[str, Any], arrays: Arrays) -> Panel:
    heldout = check["heldout"]
    levels = arrays["temperature/heldout/before/levels"]
    curves = {}
    for label, key in (("as trained", "before"), ("recalibrated", "after")):
        middle = arrays[f"temperature/heldout/{key}/central"]
        low, high = arrays[f"temperature/heldout/{key}/central_interval"].T
        curves[label] = (middle, low, high)
    rows = [("temperature", _figure(check["temperature"]))]
    for level in heldout["coverage_before"]:
        before, after = heldout["coverage_before"][level], heldout["coverage_after"][level]
        value = f"{_figure(before, percent=True)}; {_figure(after, percent=True)}"
        rows.append((f"coverage of the {100 * float(level):g} % interval, before and after", value))
    before, after = heldout["crps_before"], heldout["crps_after"]
    rows.append(
        (
            "CRPS on held-out views [degrees], before and after",
            f"{_figure(before)}; {_figure(after)}",
        )
    )
    return {
        "title": "Do intervals of the angle hold what they promise?",
        "text": "One temperature, fitted on training views, recalibrates the predicted angle; it "
        "is judged on held-out views. The recalibrated law takes its shape from the training "
        "residuals and from the model only how wide each datum is beside the others.",
        "rows": rows,
        "panels": [
            ("Coverage of central intervals", _reliability(levels, curves),
             "On the diagonal, intervals hold what they promise; above it they are too wide. Bands "
             "are 95 % over images."),
        ],
    }  # fmt: skip


def _comparison(check: dict[str, Any], arrays: Arrays) -> Panel:
    names = [name for name in check if name != "wall_time_s"]
    rows = []
    for name in names:
        joint = check[name]["joint"]
        value = f"{_figure(joint)} nats; stacking weight {check[name]['weight']:.2f}"
        if name != names[0]:
            value += f"; {_figure(joint['difference'])} from the best"
            # Diagnostics that an older version wrote do not say it.
            value += "" if check[name].get("conclusive", True) else ", not conclusive"
        rows.append((name, value))
    return {
        "title": "Which likelihood predicts best?",
        "text": "Log predictive density of held-out targets, all on this run's embeddings. The "
        "inference network was fitted anew under each likelihood. All are normalised: a "
        "subdensity cannot be compared with a density, so its normalised twin stands for it. A "
        "difference is not conclusive where its interval holds zero or the errors of the fit may "
        "have decided.",
        "rows": rows,
        "panels": [],
    }


def _figure(figure: dict[str, Any], percent: bool = False) -> str:
    """An estimate with its interval."""
    form, factor = (".1f", 100) if percent else (".2f", 1)
    value, low, high = (float(figure[key]) for key in ("value", "low", "high"))
    shown = Figure(value, low, high, figure.get("n", 0), figure.get("interval", ""))
    number, interval = parts(shown, form, factor)
    return f"{number}{' %' if percent else ''} {interval}".strip()


def _ranks(counts: Floats, x_label: str) -> Markup:
    """Counts of equal bins of [0, 1], beside the band that uniform values would stay in.

    The band holds each count by itself with 99 %: one in a hundred bins leaves it by chance.
    """
    from scipy.stats import binom

    total, bins = int(counts.sum()), len(counts)
    low, high = binom.interval(0.99, total, 1 / bins)
    edges = np.linspace(0, 1, bins + 1)
    band = charts.rows(x=[0.0], x2=[1.0], y=[low], y2=[high])
    bars = charts.rows(x=edges[:-1], x2=edges[1:], y=counts, y2=np.zeros(bins))
    layers = [
        charts.layer("rect", bars, charts.tooltip(y="count"), color=charts.SERIES, opacity=0.75),
        charts.layer("rect", band, color=charts.REFERENCE, opacity=0.22),
        *charts.level(total / bins, ""),
    ]
    outside = int(((counts < low) | (counts > high)).sum())
    alt = f"{x_label}: {outside} of {bins} bins outside the band"
    return charts.chart(alt, layers, charts.Axis(x_label), charts.Axis("count", zero=True))


def _reliability(levels: Floats, curves: dict[str, tuple[Floats, Floats, Floats]]) -> Markup:
    """Observed against nominal coverage, by label (value, low, high)."""
    layers, told = [charts.diagonal(0, 100)], []
    colours = (charts.MUTED, charts.SERIES)
    for colour, (label, (middle, low, high)) in zip(colours, curves.items(), strict=False):
        percent = charts.rows(x=100 * levels, y=100 * low, y2=100 * high)
        layers.append(charts.layer("area", percent, color=colour, opacity=0.2))
        shown = charts.rows(x=100 * levels, y=100 * middle, text=[label] * len(levels))
        said = charts.tooltip(text=" ", x="nominal [%]", y="observed [%]")
        layers += [
            charts.layer("line", shown, color=colour),
            charts.layer("point", shown, said, color=colour, size=24),
            charts.layer("text", shown[-1:], {"text": {"field": "text"}}, color=colour,
                         align="right", dx=-4, dy=12, clip=False),
        ]  # fmt: skip
        told.append(f"{label} off by at most {100 * np.abs(middle - levels).max():.1f} points")
    x, y = charts.Axis("nominal coverage [%]", domain=(0, 100)), "observed coverage [%]"
    alt = f"Observed against nominal coverage: {', '.join(told)}"
    return charts.chart(alt, layers, x, charts.Axis(y, domain=(0, 102)), height=250)


def _against(x: Floats, y: Floats, x_label: str, y_label: str) -> Markup:
    """Values against values that they should equal, with the diagonal."""
    line = charts.diagonal(float(min(x.min(), y.min())), float(max(x.max(), y.max())))
    said = charts.tooltip(x=x_label, y=y_label)
    dots = charts.layer("point", charts.rows(x=x, y=y), said, size=12, opacity=0.4)
    alt = f"{y_label} against {x_label}: correlation {np.corrcoef(x, y)[0, 1]:.2f}"
    axes = charts.Axis(x_label), charts.Axis(y_label)
    return charts.chart(alt, [line, dots], *axes, height=250, zoom=True)


_BLOCKS: dict[str, Block] = {
    "importance": _importance,
    "blocks": _block_importance,
    "amortisation": _amortisation,
    "latent": _latent,
    "nuts": _nuts,
    "c2st": _c2st,
    "sbc_nuts": _sbc("Is the model right with itself?", "Latents were drawn from the prior, data "
                     "from the model, and the exact posterior sampled by NUTS: the ranks must be "
                     "uniform, else model and sampler do not belong together."),
    "sbc_guide": _sbc("Is the guide calibrated on data of the model?", "The same with the guide, "
                      "which reads the simulated embedding as if it were a view. It was trained on "
                      "real embeddings, so this also tells how unlike them the model's own data "
                      "are."),
    "posterior_predictive": _predictive,
    "features": _features("Is every feature predicted by its law?"),
    "prior_features": _features("Does the prior make such features?"),
    "temperature": _temperature,
    "comparison": _comparison,
}  # fmt: skip
