"""The page in a real browser: complete, pictures decoded, nothing wider than the page."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

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
]
WIDTHS = (360, 1280)

# The page forbids scripts, so a second page looks at it through frames of two widths.
PROBE = """<!DOCTYPE html><title>probe</title>
<iframe width="360" height="800" srcdoc="{page}"></iframe>
<iframe width="1280" height="800" srcdoc="{page}"></iframe>
<pre id="measured"></pre>
<script>
addEventListener("load", () => {{
  const measured = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument;
    const size = (element) => {{
      const box = element.getBoundingClientRect();
      return Math.min(box.width, box.height);
    }};
    return {{
      sections: [...page.querySelectorAll("section")].map((e) => e.id),
      images: page.images.length,
      decoded: [...page.images].filter((e) => e.complete && e.naturalWidth > 0).length,
      smallest_image: Math.min(...[...page.images].map(size)),
      smallest_plot: Math.min(...[...page.querySelectorAll("figure svg")].map(size)),
      width: page.documentElement.scrollWidth,
    }};
  }});
  document.getElementById("measured").textContent = JSON.stringify(measured);
}});
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="neither Chromium nor Chrome is installed")


def browse(profile: Path, address: Path, *flags: str) -> str:
    """Opens a file with an empty profile; what the browser prints."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, address.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_page_opens_whole_on_a_phone_and_on_a_desk(report: Path, tmp_path: Path) -> None:
    # Without its own policy, which would forbid the frame's parent to look inside.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    probe = tmp_path / "probe.html"
    escaped = page.replace("&", "&amp;").replace('"', "&quot;")
    probe.write_text(PROBE.format(page=escaped))
    dom = browse(tmp_path / "profile", probe, "--dump-dom")
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom, flags=re.DOTALL)
    assert found is not None
    measured = json.loads(unescape(found[1]))
    for width, state in zip(WIDTHS, measured, strict=True):
        assert len(state["sections"]) == 11
        assert state["images"] == state["decoded"] == 114
        assert state["smallest_image"] > 20
        assert state["smallest_plot"] > 100
        assert state["width"] <= width, "the page scrolls sideways"


def test_page_under_its_own_policy_is_drawn(report: Path, tmp_path: Path) -> None:
    from PIL import Image

    shot = tmp_path / "page.png"
    browse(tmp_path / "profile", report, f"--screenshot={shot}", "--window-size=1200,5000")
    with Image.open(shot) as picture:
        assert picture.size == (1200, 5000)
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    seen = {colour for _, colour in colours}
    assert (0x00, 0x68, 0xA3) in seen, "no curve in its colour was drawn"
    assert len(seen) > 500
