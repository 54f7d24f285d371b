"""Known times in place of a clock's: what a benchmark makes of them can be tested exactly."""

import pytest


@pytest.fixture
def known_times(monkeypatch):
    """Let a script's ``in_turns`` call everything once and say that it took the seconds given.

    What has none took one second.
    """

    def use(script, seconds):
        def in_turns(runs, blocks, *_):
            for run in runs.values():
                run()
            return {name: [float(seconds.get(name, 1))] * blocks for name in runs}

        monkeypatch.setattr(script, "in_turns", in_turns)

    return use
