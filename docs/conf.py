"""Configuration of the documentation site; ``make docs`` builds it, without internet."""

import importlib
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import vje_pyro

logger = logging.getLogger(__name__)

project = "vje-pyro"
author = copyright = "The vje-pyro developers"
release = version = vje_pyro.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["results"]
nitpicky = True
# Other projects' names: their pages are not at hand without internet.
nitpick_ignore_regex = [
    (
        r"py:\w+",
        r"(annotated_types|arviz|collections|contextlib|lightning\w*|numpy|np|omegaconf|pathlib|PIL|pydantic"
        r"|Pipeline|pyro|sklearn|torch|typing|types|xarray|\d)\b.*",
    ),
]

# Pages are Markdown that also reads well in a repository browser; notebooks hold their outputs.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"

html_theme = "furo"
html_title = "vje-pyro"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
templates_path: list[str] = []
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_default_options = {
    "members": True,
    "exclude-members": "set_fit_request, set_predict_request, set_score_request",
}
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def visit_math(translator, node: nodes.math) -> None:
    """A formula as MathML, which browsers show without scripts; its brackets grow by themselves."""
    formula = re.sub(r"\\[bB]ig[lr]?(?![a-z])", "", node.astext()).replace(r"\dots", r"\ldots")
    block = isinstance(node, nodes.math_block)
    shown = tex2mathml(formula, as_block=block)
    translator.body.append(f'<div class="math">{shown}</div>' if block else shown)
    raise nodes.SkipNode


def check_api(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every public name that the reference does not have."""
    documented = env.domaindata["py"]["objects"]
    folder = Path(vje_pyro.__file__).parent
    packages = ["", *(f".{path.parent.name}" for path in sorted(folder.glob("*/__init__.py")))]
    for package in (importlib.import_module(f"vje_pyro{name}") for name in packages):
        for name in getattr(package, "__all__", ()):
            if name[0] != "_" and f"{package.__name__}.{name}" not in documented:
                logger.warning("%s.%s is public, and not in the reference", package.__name__, name)


@cache
def internal_names() -> set[str]:
    """Names of all modules, classes, functions, attributes and constants of the package."""
    package = Path(vje_pyro.__file__).parent
    files = {path for folder in (package, *package.glob("*/")) for path in folder.glob("**/*.py")}
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    defined = re.findall(r"^\s*(?:def |class |self\.)?(\w+)(?=[(:,]| =)", text, re.MULTILINE)
    return {path.stem for path in files} | {*defined, *re.findall(r"\b[A-Z_]{4,}\b", text)}


def unlinked(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """What the package has and the reference does not is shown without a link."""
    target = node["reftarget"].rsplit(".", 1)[-1]
    return shown if node["refdomain"] == "py" and target in internal_names() else None


def plain_ranges(*arguments: object) -> tuple[str | None, str | None]:
    """A signature with ``float`` in place of ``Annotated[float, Gt(gt=0)]``."""
    signature, returns = (
        part and re.sub(r"Annotated\[([^,\[\]]+), [^\[\]]*\]", r"\1", str(part))
        for part in arguments[-2:]
    )
    return signature, returns


def setup(app: Sphinx) -> None:
    """Formulas as MathML; the reference is whole."""
    app.connect("autodoc-process-signature", plain_ranges)
    app.connect("missing-reference", unlinked)
    app.connect("env-check-consistency", check_api)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
