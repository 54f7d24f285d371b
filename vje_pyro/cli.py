"""The console command ``vje``: one parser for every command.

The scripts in ``experiments/`` declare the commands. They import the library when they run, so that
help and errors of usage come at once.
"""

import inspect
import io
import re
import sys

from cyclopts import App, CycloptsError, Group, Parameter

from vje_pyro._version import __version__
from vje_pyro.errors import VJEError
from vje_pyro.experiments import (
    closed_form,
    compare,
    demo,
    diagnose,
    embed,
    evaluate,
    export,
    neighbours,
    one_class,
    ood,
    outliers,
    posterior,
    report,
    shards,
    train,
    uncertainty,
)
from vje_pyro.experiments.common import reported


def _words(default: object) -> object:
    return " ".join(map(str, default)) or None if isinstance(default, tuple) else default


def _unwrapped(docstring: str | None) -> str:
    """Each paragraph in one line, because the terminal wraps it."""
    lines = re.sub(r"(?<=\S)\n(?:(?=\S)| {8,})", " ", inspect.cleandoc(docstring or ""))
    return lines.replace("Examples::", "For example:")


app = App(
    name="vje",
    help="Variational Joint Embedding: image representations with a posterior.",
    help_epilogue="vje COMMAND --help gives details and examples. vje demo shows all of it.",
    help_format="plaintext",
    version=__version__,
    version_flags=("--version", "-V"),
    default_parameter=Parameter(negative=(), consume_multiple=True, show_default=_words),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(help="Complete commands and options in your shell.")

_COMMANDS = {
    "Train": {"train": train, "one-class": one_class, "demo": demo},
    "Use a run": {
        "neighbours": neighbours,
        "outliers": outliers,
        "embed": embed,
        "export": export,
        "report": report,
        "posterior": posterior,
    },
    "Judge a run": {
        "evaluate": evaluate,
        "diagnose": diagnose,
        "ood": ood,
        "uncertainty": uncertainty,
        "compare": compare,
    },
    "Others": {"closed-form": closed_form},
}
for _order, (_title, _scripts) in enumerate(_COMMANDS.items(), start=1):
    _group = Group(_title, sort_key=_order)
    for _name, _script in _scripts.items():
        _script.main.__doc__ = _unwrapped(_script.main.__doc__)
        _more = getattr(_script, "help_epilogue", lambda: None)()
        app.command(_script.main, name=_name, group=_group, help_epilogue=_more or "")
for _command in (shards.pack, shards.index):
    _command.__doc__ = _unwrapped(_command.__doc__)
app.command(shards.app)


def main() -> None:
    """Entry point of the console command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be no UTF-8
    words = sys.argv[1:]
    with reported():
        try:
            app(["--help"] if words == ["help"] else words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            raise VJEError(str(error)) from error
