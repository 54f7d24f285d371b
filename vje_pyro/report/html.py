"""Writes the report of a run: a page without scripts that needs nothing outside itself."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from vje_pyro.atomic import make_folder, write_atomic
from vje_pyro.report.collect import Run
from vje_pyro.report.sections import context

HERE = Path(__file__).parent
STYLE_SHEET = HERE / "style.css"


def write_report(run: Run, out: str | Path | None = None) -> Path:
    """Writes the report of a run as one HTML file.

    Args:
        run: The run, as ``vje_pyro.load`` returns it.
        out: Where to write; ``report.html`` of the run directory by default. An older file is
            replaced only when the new one is complete.

    Returns:
        The path of the file.
    """
    out = Path(out) if out is not None else Path(run.path) / "report.html"
    style = Markup(STYLE_SHEET.read_text(encoding="utf-8"))
    page = template("report.html").render(style=style, **context(run))
    make_folder(out.parent)
    write_atomic(out, page)
    return out


@cache
def template(name: str) -> Template:
    """A page of this folder; what it is given is escaped, and all it asks for must be given."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
