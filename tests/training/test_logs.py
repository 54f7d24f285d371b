"""CSV logs."""

import pytest

from vje_pyro.errors import CheckpointError
from vje_pyro.reading import read_csv
from vje_pyro.training.logs import CsvLog


def test_rows_are_appended(tmp_path):
    log = CsvLog(tmp_path / "a.csv")
    log.write({"step": 1, "alarms": 'rank 1, "low"; kl'})
    log.write({"step": 2, "alarms": ""})
    assert read_csv(tmp_path / "a.csv") == [
        {"step": "1", "alarms": 'rank 1, "low"; kl'},
        {"step": "2", "alarms": ""},
    ]


def test_a_new_column_is_added_to_old_rows(tmp_path):
    log = CsvLog(tmp_path / "a.csv")
    log.write({"step": 1, "loss": 0.5})
    log.write({"step": 2, "loss": 0.25, "kl": 3.0})
    log.write({"step": 3, "kl": 2.0})
    assert [list(row.values()) for row in read_csv(tmp_path / "a.csv")] == [
        ["1", "0.5", ""],
        ["2", "0.25", "3.0"],
        ["3", "", "2.0"],
    ]


def test_resume_cuts_later_and_unfinished_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("step,loss\n3,1.0\n6,2.0\n9,3.0\n1")
    log = CsvLog(path, resume_step=6)
    assert path.read_text() == "step,loss\n3,1.0\n6,2.0\n"
    log.write({"step": 9, "loss": 4.0})
    assert path.read_text() == "step,loss\n3,1.0\n6,2.0\n9,4.0\n"


def test_resume_without_rows_or_file(tmp_path):
    path = tmp_path / "a.csv"
    CsvLog(path, resume_step=6).write({"step": 7})
    assert path.read_text() == "step\n7\n"
    log = CsvLog(path, resume_step=2)
    log.write({"step": 3, "loss": 1})
    assert path.read_text() == "step,loss\n3,1\n"


def test_new_log_replaces_an_old_file(tmp_path):
    (tmp_path / "a.csv").write_text("step\n1\n")
    CsvLog(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == ""


def test_unwritable(tmp_path):
    log = CsvLog(tmp_path / "no" / "a.csv")
    with pytest.raises(CheckpointError, match="Cannot write"):
        log.write({"step": 1})
