"""Whatever a file holds, what reads it answers with a CheckpointError that names it."""

import os
from dataclasses import dataclass

import numpy as np
import pytest
from pydantic import StrictInt

from vje_pyro.errors import CheckpointError
from vje_pyro.reading import JsonFormat, read_bytes, read_csv, read_npz


@dataclass
class Pair:
    a: StrictInt
    b: dict[str, float]


PAIR = JsonFormat(Pair, "no pair at {folder}", "Write it again.", schema="pair", version=1)
GOOD = b'{"schema": "pair", "schema_version": 1, "a": 1, "b": {"c": 0.5}}'

NOT_JSON = {
    "empty": b"",
    "cut": GOOD[:30],
    "rubbish": bytes(range(256)),
    "latin-1": GOOD.replace(b"pair", b"p\xe9r"),
    "utf-16": GOOD.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "too deep for Python": b"[" * 100_000 + b"]" * 100_000,
    "deep": b'{"schema": "pair", "schema_version": 1, "a": 1, "b": ' + b"[" * 40 + b"]" * 40 + b"}",
    "a number of 5000 digits": GOOD.replace(b"1,", b"1" * 5000 + b",", 1),
    "a key twice": GOOD.replace(b'"a": 1', b'"a": 1, "a": 2'),
    "two values": GOOD + GOOD,
    "null characters": GOOD + b"\0" * 100,
}
WRONG = {
    "a list": b"[1]",
    "a number": b"3",
    "null": b"null",
    "no schema": GOOD.replace(b'"schema": "pair", ', b""),
    "another version": GOOD.replace(b'"schema_version": 1', b'"schema_version": 2'),
    "a version of another type": GOOD.replace(b'"schema_version": 1', b'"schema_version": true'),
    "a missing key": GOOD.replace(b'"a": 1, ', b""),
    "text for a number": GOOD.replace(b'"a": 1', b'"a": "1"'),
    "true for a number": GOOD.replace(b'"a": 1', b'"a": true'),
    "a list for a mapping": GOOD.replace(b'{"c": 0.5}', b"[0.5]"),
}


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(GOOD)
    assert PAIR.read(path) == Pair(1, {"c": 0.5})


@pytest.mark.parametrize("name", [*NOT_JSON, *WRONG])
def test_damaged_json_is_refused_by_name(tmp_path, name):
    path = tmp_path / "a.json"
    path.write_bytes({**NOT_JSON, **WRONG}[name])
    said = "not a JSON file|nested deeper" if name in NOT_JSON else "Input should|expected|required"
    with pytest.raises(CheckpointError, match=rf"a\.json is damaged: .*({said}).*Write it again"):
        PAIR.read(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"no pair at {tmp_path}"):
        PAIR.read(tmp_path / "a.json")
    with pytest.raises(CheckpointError, match="no pair"):
        PAIR.read(tmp_path / "a.json" / "b.json")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_bytes(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_bytes(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_bytes(tmp_path / "loop")
    (tmp_path / "big").write_bytes(b"123")
    with pytest.raises(CheckpointError, match="3 bytes"):
        read_bytes(tmp_path / "big", limit=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1\n2,3\n", "1 values for 2 columns in line 2"),
        (b"a,b\n1,2,3\n", "3 values for 2 columns"),
        (b"a,a\n1,2\n", "a column occurs twice"),
        (b"a\n\xff\n", "utf-8"),
        (b'a\n"x\n', "unexpected end"),
        (b"\xef\xbb\xbfa\n1\n", "byte order mark"),
    ],
)
def test_damaged_csv_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\.csv is damaged: .*{message}"):
        read_csv(path)


def test_an_unfinished_line_is_left_out_or_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3")
    assert read_csv(path) == [{"a": "1", "b": "2"}]
    assert read_csv(path, keep_unfinished=True) == [{"a": "1", "b": "2"}, {"a": "3"}]
    path.write_text("")
    assert read_csv(path) == []


def test_damaged_arrays_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(100.0), y=np.arange(3))
    whole = path.read_bytes()
    assert read_npz(path)["x"].tolist() == list(range(100))
    for content in (b"", whole[:200], whole[:-30], whole[:90] + b"\xff" + whole[91:], b"PK\3\4"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"a\.npz is damaged"):
            read_npz(path)
    np.savez(path, x=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match=r"a\.npz is damaged.*allow_pickle"):
        read_npz(path)
