"""The page: complete, self-contained, safe with hostile text, and useful with parts missing."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vje_pyro.errors import DataError
from vje_pyro.report import write_report

SECTIONS = (
    *("map", "figures", "curves", "neighbours", "certainty", "views"),
    *("diagnostics", "spectrum", "scale", "trained", "reproduce"),
)
HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>$\\frac'


SAID = {
    "": ("trained on 1,400 images of digits", "No collapse alarm in 20 logged epochs"),
    "trained": (
        *("SphericalStudentT(df=1)", "AdamW(lr=0.002", "D = 24", "c47b9240f1", "1 min 20 s"),
        *("Batch128", "train 1,400, test 397", "32-true"),
        "DiagonalNormal(hidden=64)",
    ),
    "figures": (
        *("94.7 %", "[92.4, 96.7]", "397", "95 % bootstrap over test images"),
        *("accuracy, 5 labels a class", "95 % t-interval over 10 draws, logit scale"),
        "Protocol knn-v1",
    ),
    "curves": (
        *("ELBO", "Learning rate", "Angle between views", "Gradient norm"),
        "Effective rank (RankMe)",
    ),
    "neighbours": ("% have the query's label",),
    "spectrum": (
        *("Participation ratio", "of 24: (Σ λ)² / Σ λ²"),
        *("Effective rank (RankMe)", "of 24: exponential of the entropy"),
    ),
    "diagnostics": (
        *("Is the guide close to the exact posterior?", "effective share of the draws"),
        *("⚠ found: k-hat is 2.99 in the median", "50.0 % [40.0, 60.0]", "Pareto k-hat"),
    ),
    "reproduce": ("vje train experiment=digits 'data.root=my data'", '"torch": "2.14.1"'),
}
"""What a section of the full report says."""


class Page(HTMLParser):
    """Elements of a page with their attributes, and its text by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def with_class(self, name: str) -> int:
        return sum(name in (a.get("class") or "").split() for _, a in self.elements)


def read(run: Any) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_has_every_section_plot_and_word(full: Any, page: Page) -> None:
    assert [a["id"] for a in page.all("section")] == list(SECTIONS)
    assert page.with_class("missing") == page.with_class("loud") == page.with_class("live") == 0
    assert page.with_class("calm") == 1
    # 15 curves, 1 of the spectrum, 3 of the posterior, 2 maps, 1 of accuracies, 2 of a check
    assert page.with_class("chart") == len(page.all("svg")) == 24
    drawn = [a for a in page.all("div") if a.get("class") == "chart"]
    assert all(a["role"] == "img" and len(str(a["aria-label"])) > 20 for a in drawn)
    assert len(page.all("img")) == 2 * 12 + 10 * 9 + 1  # and the thumbnails of the map
    assert page.with_class("right") + page.with_class("wrong") == 80
    assert page.with_class("right") > page.with_class("wrong") > 0
    said = {section: " ".join(text.split()) for section, text in page.text.items()}
    assert [part for section in SAID for part in SAID[section] if part not in said[section]] == []
    assert said["figures"].index("nearest neighbours") < said["figures"].index("few labels")
    assert f"vje report {full.path}" in said["reproduce"]
    of_encoder, of_all = (
        f"{sum(p.numel() for p in module.parameters()):,}"
        for module in (full.method.encoder, full.method)
    )
    assert f"{of_encoder} of the encoder, {of_all} in all" in said["trained"]
    (link,) = [a for a in page.all("a") if a.get("download") == "run.json"]
    assert str(link["href"]).startswith("data:application/json;base64,")


def spoil(run: Any, what: str) -> None:
    """Takes something away from a run, or breaks it."""

    def no_data(name: str) -> Any:
        raise DataError("no such folder: /nowhere; give data.root")

    if what in ("logs", "results"):
        for file in run.path.glob(f"{what}/*"):
            file.unlink()
    elif what == "record":
        run.info.clear()
    elif what == "data":
        run.source.split = no_data
    elif what == "one result":
        (run.path / "results" / "broken.json").write_text("{")
    elif what == "precision":
        run.info["precision"] = "bf16-mixed"
    elif isinstance(what, float):
        with torch.no_grad():
            run.method.encoder.weight.fill_(what)
    else:
        for name, split in run.source.splits.items():
            few = {"images": split.images[:what], "labels": split.labels[:what]}
            run.source.splits[name] = replace(split, **few)


OF_IMAGES = ("spectrum", "scale", "certainty", "neighbours", "map")


@pytest.mark.parametrize(
    ("what", "sections", "said"),
    [
        ("logs", ("curves",), "logs/steps.csv is not there"),
        ("logs", ("",), "Collapse was not watched"),
        ("results", ("figures",), "vje evaluate"),
        ("record", ("reproduce",), "does not record a command"),
        ("data", OF_IMAGES, "no such folder: /nowhere"),
        ("data", ("figures",), "94.7 %"),
        ("one result", ("figures",), "results/broken.json could not be read"),
        ("one result", ("figures",), "94.7 %"),
        ("precision", ("trained",), "bf16-mixed"),
        (0.0, ("spectrum", "map"), "has collapsed"),
        (float("nan"), OF_IMAGES, "NaN or infinite"),
        (30, ("map",), "t-SNE needs at least 50"),
        (2, ("spectrum",), "no more images than features"),
        (1, ("spectrum",), "fewer than two images"),
    ],
)
def test_what_is_missing_or_broken_is_said_where_it_belongs(
    run: Any, what: Any, sections: tuple[str, ...], said: str
) -> None:
    spoil(run, what)
    page = read(run)
    assert [section for section in sections if said not in page.text[section]] == []


def test_what_is_not_known_is_left_out(run: Any) -> None:
    for what in ("logs", "results", 30):
        spoil(run, what)
    page = read(run)
    assert page.with_class("tiles") == 0
    assert "no more images than features" not in page.text["spectrum"]


def test_without_posterior(baseline: Any) -> None:
    page = read(baseline)
    assert all("has no posterior" in page.text[section] for section in ("scale", "certainty"))
    assert page.with_class("missing") == 2
    assert "prior σ" not in (baseline.path / "report.html").read_text()


def test_is_self_contained_and_small(text: str, page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "srcset", "data", "xlink:href"):
            address = attributes.get(name)
            assert address is None or address.startswith("data:"), (tag, address)
    links = [str(a["href"]) for a in page.all("a") if not str(a["href"]).startswith(("#", "data:"))]
    assert links == ["https://vega.github.io"]  # the licence notice: followed by a reader only
    assert not re.search(r"url\((?!#)|@import", text[: text.index("<body>")])
    assert len(text) < 2_200_000


def test_only_the_scripts_of_the_page_may_run(text: str, page: Page) -> None:
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert str(policy).startswith("default-src 'none';")
    assert "unsafe-eval" not in str(policy)
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    allowed = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"'sha256-([^']+)'", str(policy).split("script-src")[1]) == allowed
    assert len(page.all("script")) == len(scripts) + page.with_class("chart") + 1  # the rest: data
    assert all(a == {} or a["type"] == "application/json" for a in page.all("script"))


def test_ids_are_unique_and_internal_links_resolve(page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a.get("href") or a.get("xlink:href") or "" for _, a in page.elements]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_colours_follow_the_theme(text: str) -> None:
    svg = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--series)" in svg
    drawn = set(re.findall(r'(?:fill|stroke)="(?!none|transparent|currentColor|var)([^"]+)"', svg))
    assert drawn == set(), "a colour of a plot ignores the theme"
    style = text[: text.index("</style>")]
    defined = set(re.findall(r"--([\w-]+):", style))
    assert set(re.findall(r"var\(--([\w-]+)\)", svg + style)) <= defined


def test_headings_are_plain_words_and_protocols_small_print(text: str, page: Page) -> None:
    headings = re.findall(r"<(h[1-3]|summary|th)[^>]*>(.*?)</\1>", text, flags=re.DOTALL)
    headings += [
        ("span", span) for span in re.findall(r'<ul class="tiles">.*?</ul>', text, re.DOTALL)
    ]
    assert len(headings) > 20
    assert not [
        heading for _, heading in headings if re.search(r"-v\d", heading.split("<code>")[0])
    ]
    assert "Protocol knn-v1" in page.text["figures"]


def test_alarms_are_loud_and_say_when(run: Any, log_alarm: Callable[..., None]) -> None:
    log_alarm(run.path, alarm="RankMe 2.1 is below 5 % of D", epoch=20)
    page = read(run)
    assert page.with_class("loud") == 1
    assert "Alarm in 1 of 20 epochs, and at the end of training" in page.text[""]
    assert "RankMe 2.1 is below 5 % of D (epoch 20)" in " ".join(page.text[""].split())


def test_alarms_of_one_kind_are_one_line(run: Any) -> None:
    lines = [f"{n},rankme 0.0{n} of D; kl 0.{n} nats" if n > 2 else f"{n}," for n in range(1, 10)]
    (run.path / "logs" / "epochs.csv").write_text("\n".join(["epoch,alarms", *lines]))
    header = " ".join(read(run).text[""].split())
    assert "rankme 0.09 of D (epoch 3, 4, 5, 6, 7, … 9: 7 in all)" in header
    assert "kl 0.9 nats (epoch 3" in header
    assert "rankme 0.08" not in header


def test_hostile_text_stays_text(run: Any, log_alarm: Callable[..., None]) -> None:
    run.config["method"]["guide"] = {"_target_": HOSTILE, HOSTILE: HOSTILE}
    run.config["optimizer"]["_target_"] = HOSTILE
    run.info["command"] = run.info["commit"] = HOSTILE
    run.info[HOSTILE] = HOSTILE
    run.source.name = HOSTILE
    log_alarm(run.path, alarm=HOSTILE.replace('"', "'"))
    (run.path / "results" / "<img src=x onerror=alert(1)>.json").write_text("{}")
    for path in (run.path / "results").glob("knn*.json"):
        result = json.loads(path.read_text())
        result |= {"protocol": HOSTILE, "method": HOSTILE, "features": HOSTILE}
        result["dataset"]["name"] = HOSTILE
        result["figures"] = {f"{HOSTILE}{name}": f for name, f in result["figures"].items()}
        path.write_text(json.dumps(result))
    steps = run.path / "logs" / "steps.csv"
    column, *rows = steps.read_text().splitlines()
    quoted = HOSTILE.replace('"', "'")
    steps.write_text("\n".join([f"{column},{quoted}", *(f"{row},1" for row in rows), ""]))
    classes = tuple(f"{HOSTILE}{digit}" for digit in range(10))
    for name, split in run.source.splits.items():
        run.source.splits[name] = replace(split, classes=classes)
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    for data in re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL):
        json.loads(data)  # nothing in it ends the element early
    scripts = [a for a in page.all("script") if a.get("type") != "application/json"]
    assert len(scripts) == 2
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    assert not [a for _, a in page.elements if "onerror" in a]
    assert HOSTILE in page.text["reproduce"]
    assert HOSTILE[:15] in page.text["map"]  # the name on the map


@pytest.mark.parametrize("kind", ["none", "single class", "class without name"])
def test_unusual_labels(run: Any, kind: str) -> None:
    for name, split in run.source.splits.items():
        labels = {
            "none": torch.full_like(split.labels, -1),
            "single class": torch.zeros_like(split.labels),
            "class without name": split.labels + 20,
        }[kind]
        classes = ("zero",) if kind == "single class" else ()
        run.source.splits[name] = replace(split, labels=labels, classes=classes)
    run.source.num_classes = {"none": 0, "single class": 1}.get(kind, 30)
    page = read(run)
    assert page.with_class("missing") == 0
    if kind == "none":
        assert "no labels" in page.text["neighbours"]
        assert page.with_class("right") + page.with_class("wrong") == 0
        assert "unlabelled" in page.text["map"]
    elif kind == "single class":
        assert page.with_class("wrong") == 0
        assert page.with_class("right") == 80
        assert "zero" in page.text["map"]
    else:
        assert "29" in page.text["map"]


def test_colour_images_on_disk(run: Any) -> None:
    from PIL import Image

    class Files:
        """A split that is decoded on demand, with images of mixed size and mode."""

        def __init__(self, array: Any) -> None:
            self.array, self.labels, self.classes = array, array.labels, array.classes

        def __len__(self) -> int:
            return len(self.labels)

        def readable(self, indices: list[int]) -> Iterator[tuple[int, Image.Image]]:
            for index in indices:
                grey = Image.fromarray(self.array.images[index, 0].numpy())
                yield index, grey.convert("RGB").resize((9 + index % 3, 10))

    for name, split in run.source.splits.items():
        run.source.splits[name] = Files(split)
    page = read(run)
    assert page.with_class("missing") == 0
    assert {image["width"] for image in page.all("img") if "width" in image} == {"8"}


def test_writes_all_or_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_report(run).read_bytes()

    def fail(self: object, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(run.method), "embed", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        write_report(run)
    assert (run.path / "report.html").read_bytes() == first
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_other_path_and_no_state_changed(run: Any, tmp_path: Path) -> None:
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    out = tmp_path / "new" / "page.html"
    assert write_report(run, out) == out
    assert out.is_file()
    assert not (run.path / "report.html").exists()
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert run.method.training


def test_same_run_same_page(run: Any, tmp_path: Path) -> None:
    pages = [write_report(run, tmp_path / f"{i}.html").read_text() for i in range(2)]
    first, second = (re.sub(r"Written [\d\- :]+ UTC", "", page) for page in pages)
    assert first == second


def figures_in(page: Path) -> tuple[list[tuple[float, ...]], list[str]]:
    """Intervals that a page shows outside of its scripts, as value, low and high; and shares."""
    markup = page.read_text(encoding="utf-8")
    text = re.sub(r"<(script|style|svg).*?</\1>|<[^>]*>", " ", markup, flags=re.DOTALL)
    text = " ".join(text.replace("\N{MINUS SIGN}", "-").split())
    intervals = re.findall(r"(-?[\d.,]+)(?: %)? \[ ?(-?[\d.,]+), (-?[\d.,]+) ?\]", text)
    numbers = [tuple(float(x.replace(",", "")) for x in found) for found in intervals]
    return numbers, re.findall(r"(-?[\d.,]*\d)([ \N{NO-BREAK SPACE}]?)%", text)


def test_figures_lie_in_their_range_and_percent_is_written_one_way(report):
    intervals, shares = figures_in(report)
    assert len(intervals) >= 5
    assert all(low <= value <= high for value, low, high in intervals)
    assert len(shares) >= 3
    assert {space for _, space in shares} == {" "}
    assert all(0 <= float(share.replace(",", "")) <= 100 for share, _ in shares)
