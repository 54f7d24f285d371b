"""``vje one-class``."""

import logging
import os
import sys
from functools import partial

from vje_pyro.errors import DataError
from vje_pyro.experiments.common import Packages, split_trust
from vje_pyro.experiments.train import Words
from vje_pyro.verbs.partial import attempted


def main(*overrides: Words, trust: Packages = ()) -> None:
    """Train a model for each class, and measure how well it detects the other classes.

    Every score without labels is judged by its AUROC for the class against the others on the test
    split. The result is RUN_DIR/one-class-v1.json. With the same run_dir, the command continues
    with the missing classes. A class that cannot be learned is skipped and named, and the exit code
    is then 3.

    Examples::

        vje one-class experiment=digits
        vje one-class experiment=digits run_dir=runs/ten classes=[0,3]

    Args:
        overrides: Overrides as for vje train; run_dir=FOLDER, and classes=[0,3] for some classes.
    """
    packages, words = split_trust(trust, overrides)
    own = {key: _pop(words, key) for key in ("run_dir", "classes")}
    classes = _numbers(own["classes"])
    from vje_pyro.statistics import show
    from vje_pyro.verbs.one_class import one_class

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger(one_class.__module__).setLevel(logging.INFO)
    run_dir = own["run_dir"] and os.path.expanduser(own["run_dir"])
    with attempted(partial(one_class, words, run_dir, classes, packages)) as result:
        for name, figure in result.figures.items():
            if name.count("_") == 1:
                print(f"{name:40} {show(figure, '.4f')}")


def _pop(words: list[str], key: str) -> str | None:
    found = [word for word in words if word.startswith(f"{key}=")]
    for word in found:
        words.remove(word)
    return found[-1].removeprefix(f"{key}=") if found else None


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.strip("[]").split(",")]
    except ValueError:
        raise DataError(f"classes must be numbers, as in classes=[0,3], got {text!r}.") from None
