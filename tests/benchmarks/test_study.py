"""The command line of the studies."""

import pytest
import study


def test_an_override_is_not_taken_for_features(capsys):
    with pytest.raises(SystemExit):
        study.main(["--features", "encoder", "training.epochs=1"])
    assert "invalid choice: 'training.epochs=1'" in capsys.readouterr().err


def test_overrides_stand_before_the_options(monkeypatch):
    asked = []
    monkeypatch.setattr(study, "run_seed", lambda *given, **named: asked.append(given))
    study.main(["training.epochs=1", "--experiment", "digits", "--seeds", "3"])
    assert asked == [("digits", "digits", 3, ["training.epochs=1"], ["encoder", "batch-norm"])]
