"""The console command ``vje``: one word chooses the job."""

import importlib
import io
import sys

from vje_pyro._version import __version__

# The job's module is imported when it is chosen, so that help and errors come at once.
_COMMANDS = {
    "train": ("pretrain", "train a method; Hydra overrides follow (experiment=digits …)"),
    "evaluate": ("evaluate", "kNN, linear probe and few labels, into result files"),
    "embed": ("embed", "embeddings and posteriors of a folder of images"),
    "diagnose": ("diagnose", "can the posterior be believed? k-hat, calibration, NUTS …"),
    "posterior": ("posterior", "one latent and many views: fit the joint posterior and check it"),
    "ood": ("ood", "out-of-distribution detection: every score of a run against other data"),
    "one-class": ("one_class", "a model for each class, and how well it knows the others"),
    "uncertainty": ("uncertainty", "do errors, people's doubts and corruptions raise it?"),
    "compare": ("compare", "several methods on one page: accuracy, cost, outliers"),
    "closed-form": ("closed_form.command", "joint embedding against reconstruction, linear"),
    "shards": ("shards", "tar shards of a folder of images, and the index of shards"),
    "report": ("report", "the HTML report of a run"),
    "demo": ("demo", "all of it on scikit-learn's digits, in a few minutes"),
}

_USAGE = "\n".join(
    [
        "usage: vje COMMAND …",
        "",
        *(f"  {name:12} {help}" for name, (_, help) in _COMMANDS.items()),
        "",
        "vje COMMAND --help tells more. Variational Joint Embedding, version " + __version__,
    ]
)


def main() -> None:
    """Entry point of the console command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be no UTF-8
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_USAGE)
        return
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return
    if arguments[0] not in _COMMANDS:
        print(f"error: no command {arguments[0]!r}\n\n{_USAGE}", file=sys.stderr)
        sys.exit(2)
    from vje_pyro.experiments.reporting import reported

    with reported():
        module = importlib.import_module(f"vje_pyro.experiments.{_COMMANDS[arguments[0]][0]}")
        # As if the script itself had been started: Hydra reads sys.argv, and the processes of a
        # distributed run are started from it.
        sys.argv = [str(module.__file__), *arguments[1:]]
        module.main()
