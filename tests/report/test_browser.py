"""The pages in a real browser: whole on a phone and on a desk, they answer to hover and click."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vje_pyro.evaluation import Figure
from vje_pyro.report.comparison import Contender, Curve
from vje_pyro.report.comparison_page import write_page
from vje_pyro.report.gallery import Neighbours, photograph
from vje_pyro.report.page import write_page as page_of

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=60000",
]
WIDTHS = (390, 1200)

# A second page looks at the first one through frames of two widths, opens all that is folded,
# points at a mark and clicks on the head of a column. Charts are drawn at once, not when they are
# scrolled to.
PROBE = """<!DOCTYPE html><title>probe</title>
<iframe width="390" height="800" srcdoc="{page}"></iframe>
<iframe width="1200" height="800" srcdoc="{page}"></iframe>
<pre id="measured"></pre>
<script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
async function measure(frame) {{
  const page = frame.contentDocument, all = (what) => [...page.querySelectorAll(what)];
  const box = (e) => e.getBoundingClientRect();
  all("details").forEach((e) => {{ e.open = true; }});
  for (let turn = 0; turn < 300 && all(".chart > svg").length; turn++) await wait(100);
  await wait(500);
  const mark = page.querySelector("main .live path[transform][d^='M']:not([pointer-events])");
  if (mark) {{
    const at = box(mark), place = {{ clientX: at.x + at.width / 2, clientY: at.y + at.height / 2 }};
    for (const kind of ["pointerover", "pointermove"])
      mark.dispatchEvent(new frame.contentWindow.PointerEvent(kind, {{ bubbles: true, ...place }}));
    await wait(300);
  }}
  const tip = page.getElementById("tip"), canvas = tip.querySelector("canvas");
  const table = all("table.sortable").find((e) => e.tBodies[0].rows.length > 2);
  const heads = table ? [...table.tHead.rows[0].cells] : [];
  const head = heads.findIndex((e) => e.classList.contains("number"));
  const number = (row) => Number(row.cells[head].dataset.value);
  const column = () => table ? [...table.tBodies[0].rows].map(number) : [];
  const before = column();
  heads[head]?.click();
  const falling = column();
  heads[head]?.click();
  const shown = (e) => box(e).width > 0;
  return {{
    sections: all("section").length,
    images: page.images.length,
    decoded: [...page.images].filter((e) => e.complete && e.naturalWidth > 0).length,
    smallest_image: Math.min(...[...page.images].filter(shown).map((e) => box(e).width)),
    smallest_plot: Math.min(...all(".live svg").map((e) => Math.min(box(e).width, box(e).height))),
    charts: all(".chart").length,
    live: all(".live svg").length,
    wide: all(".live svg").filter((e) => box(e).right > box(e.closest("section")).right + 1).length,
    clipped: all("td, th").filter((e) => shown(e) && (e.scrollWidth > e.clientWidth + 1
      || box(e).right > box(e.closest("section")).right + 1)).length,
    narrowest: Math.min(...all("dd, p").filter(shown).map((e) => box(e).width)),
    width: page.documentElement.scrollWidth,
    tip: tip.hidden ? "" : tip.textContent,
    picture: canvas ? new Set(canvas.getContext("2d").getImageData(0, 0, 112, 112).data).size : 0,
    before, falling, rising: column(),
  }};
}}
addEventListener("load", async () => {{
  const measured = [];
  for (const frame of document.querySelectorAll("iframe")) measured.push(await measure(frame));
  document.getElementById("measured").textContent = JSON.stringify(measured);
}});
</script>"""
AT_ONCE = """IntersectionObserver = class {
  constructor(call) { this.call = call; }
  observe(target) { this.call([{ isIntersecting: true, target }]); }
  unobserve() {}
};"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="neither Chromium nor Chrome is installed")


def browse(profile: Path, address: Path, *flags: str) -> str:
    """Opens a file with an empty profile; what the browser prints."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, address.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=True).stdout


def probed(page: Path, folder: Path) -> list[dict]:
    """What the probe found of a page, in each of the widths."""
    # Without its own policy, which would forbid the frame's parent to look inside.
    at_once = f"<script>{AT_ONCE}</script>"
    text = re.sub(r'<meta http-equiv="Content-Sec[^>]*>', at_once, page.read_text())
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(page=escape(text)))
    dom = browse(folder / "profile", probe, "--dump-dom")
    found = re.search(r'<pre id="measured">(.+?)</pre>', dom, flags=re.DOTALL)
    assert found is not None
    return json.loads(unescape(found[1]))


def check_layout(state: dict, width: int) -> None:
    assert state["width"] <= width, "the page scrolls sideways"
    assert state["clipped"] == state["wide"] == 0
    assert state["narrowest"] > 120, "a column of text is too narrow to read"
    assert state["images"] == state["decoded"]
    assert state["images"] == 0 or state["smallest_image"] > 40


def check(state: dict, width: int) -> None:
    check_layout(state, width)
    assert state["live"] == state["charts"]
    assert state["smallest_plot"] > 50
    assert state["tip"], "nothing is shown above a mark"
    assert len(state["before"]) > 2
    assert state["falling"] == sorted(state["before"], reverse=True)
    assert state["rising"] == sorted(state["before"])


def test_report_answers_on_a_phone_and_on_a_desk(report: Path, tmp_path: Path) -> None:
    for width, state in zip(WIDTHS, probed(report, tmp_path), strict=True):
        check(state, width)
        assert state["sections"] == 11
        assert state["images"] == 115
        assert state["charts"] == 24
        assert state["picture"] > 4, "the image of the point is not shown"


def test_galleries_are_whole_on_a_phone_and_on_a_desk(tmp_path: Path) -> None:
    name = "a_folder_in_a_folder/and_a_picture_with_a_long_name.jpg"
    pictures = [
        photograph(
            Image.new("L", (64, 48 + n)), name if n % 2 else f"{n}.png", f"{1 / (n + 1):.3g}"
        )
        for n in range(20)
    ]
    told = {"run_name": "run", "folder": "a/long/path/to/a/folder/of/pictures", "count": 20}
    scores = {"detector": "knn", "merits": {"knn": 0.9, "mahalanobis": 0.7}, "scores_file": "a.csv"}
    rows = [Neighbours(pictures[n], pictures[n + 1 :][:12]) for n in (0, 1)]
    pages = {
        "outliers.html": scores | {"least": pictures, "most": pictures},
        "neighbours.html": {"rows": rows, "table_file": "a.csv"},
    }
    for template, content in pages.items():
        page = page_of(template, tmp_path / template, **told, **content)
        for width, state in zip(WIDTHS, probed(page, tmp_path), strict=True):
            check_layout(state, width)
            assert state["images"] >= 26


def contender(number: int) -> Contender:
    """A made-up method with figures of every kind that a comparison shows."""

    def figure(value: float) -> Figure:
        return Figure(value, value - 0.01, value + 0.01, 3, "95% t-interval over 3 seeds")

    figures = {("knn-v1", "accuracy"): figure(0.4 + 0.01 * (number * 5 % 11))}
    figures |= {("few-label-v1", f"accuracy_{k}"): figure(0.2 + k / 100) for k in (1, 5, 10)}
    figures |= {("linear-v1", "accuracy"): figure(0.5), ("linear-sgd-v1", "accuracy"): figure(0.51)}
    for score in ("mahalanobis", "knn"):
        for out in ("mnist_t10k_1000", "dtd32_1000", "a-set-with-quite-a-long-name"):
            figures[f"ood-v1 {out}", f"auroc_{score}"] = figure(0.5 + number / 30)
    figures["uncertainty-v2", "aurc_knn_probe-entropy"] = figure(0.3)
    cost = {"rankme": 100.0, "step_ms": 123.0, "peak_memory": 14701.0, "minutes": 6.9}
    logged = {name: figure(value + number) for name, value in cost.items()}
    epochs = np.arange(1.0, 6.0)
    curve = Curve(epochs, 30 * epochs, 0.1 * np.sqrt(epochs) + number / 100)
    config = {"method.name": f"{number}"}
    return Contender(f"method_{number}", (0, 1, 2), figures, logged, {"knn": curve}, config)


def test_comparison_answers_on_a_phone_and_on_a_desk(tmp_path: Path) -> None:
    page = write_page([contender(n) for n in range(11)], "Eleven", tmp_path / "page.html")
    for width, state in zip(WIDTHS, probed(page, tmp_path), strict=True):
        check(state, width)
        assert state["charts"] == 6 + 4 + 1 + 2


def test_report_under_its_own_policy_is_alive_and_drawn(report: Path, tmp_path: Path) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "page.png"
    digest = base64.b64encode(hashlib.sha256(AT_ONCE.encode()).digest()).decode()
    text = report.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    page.write_text(text.replace("<style>", f"<script>{AT_ONCE}</script><style>", 1))
    size = "--window-size=1200,3000"
    dom = browse(tmp_path / "profile", page, f"--screenshot={shot}", size, "--dump-dom")
    assert dom.count('class="live vega-embed') == 24, "the policy refuses the page's own scripts"
    with Image.open(shot) as picture:
        assert picture.size == (1200, 3000)
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    seen = {colour for _, colour in colours}
    assert (0x00, 0x68, 0xA3) in seen, "no curve in its colour was drawn"
    assert len(seen) > 500
