"""Writes pages: one HTML file each, with all that it shows, and no request to anywhere."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vje_pyro._version import __version__
from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.report import charts

HERE = Path(__file__).parent


def write_page(template: str, out: Path, **content: Any) -> Path:
    """Fill a template of this folder and write it, all or nothing.

    What the template is given is escaped, and all that it asks for must be given. Only the page's
    own two scripts run: its policy names them by their hashes.

    Args:
        template: Name of the file.
        out: The page; its folder is made if need be.
        content: What the template shows.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = _scripts()
    page = environment.get_template(template).render(
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        config=charts.as_script(charts.CONFIG),
        version=__version__,
        **content,
    )
    make_folder(out.parent)
    write_atomic(out, page)
    return out


@cache
def _scripts() -> tuple[str, str]:
    """Vega with Vega-Lite, and the page's own."""
    bundle = vl_convert.javascript_bundle(vl_version=charts.VERSION)  # type: ignore[call-arg]
    return bundle.replace("</script", "<\\/script"), (HERE / "page.js").read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
