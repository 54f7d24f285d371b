"""Damaged files of runs, read with everything that reads them: refused, or read as they were.

    python -m pytest -m slow tests/campaigns/damage.py -s

Counts go to ``docs/results/campaigns/damage.json``; ``VJE_CAMPAIGN_SEED`` repeats a campaign.
"""

import csv
import io
import json
import os
import random
import shutil
import struct
import traceback
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from commandline import TINY, run_cli

import vje_pyro
from vje_pyro.diagnostics import load_netcdf
from vje_pyro.errors import VJEError
from vje_pyro.evaluation.result import Result
from vje_pyro.provenance import git_commit
from vje_pyro.report import diagnostics, write_report
from vje_pyro.report.collect import read_log, read_results
from vje_pyro.report.comparison import read_contender
from vje_pyro.training.checkpoint import load_checkpoint
from vje_pyro.verbs.pretrain import resume

CASES = 1000
REPORTS = 0.05
"""Share of the cases in which the whole report is written too."""

RESULT = Path(__file__).parents[2] / "docs/results/campaigns/damage.json"

FILES = {
    "run.json": "run.json",
    "checkpoint": "checkpoints/last.safetensors",
    "result": "results/knn-v1-encoder.json",
    "log": "logs/steps.csv",
    "epochs": "logs/epochs.csv",
    "diagnostics": "diagnostics/diagnostics.json",
    "arrays": "diagnostics/arrays.npz",
    "netcdf": "diagnostics/inference.nc",
}
ODD = (
    None, True, False, 0, -1, 1, 0.5, 10**30, 1e308, float("nan"), float("inf"), "", "x", "1",
    "\ud800", "é" * 300, [], [1], {}, {"a": 1}, [[[[]]]], {"_target_": "vje_pyro.models.VJE"},
)  # fmt: skip
BYTES = ("flip", "flips", "truncate", "zeros", "insert", "cut", "swap", "empty", "rubbish", "twice")
TEXT = ("utf-16", "latin-1", "mark", "null")
PLACES = ("directory", "pipe", "loop", "dangling", "absent")


def mangled(data, how, rng):
    """Bytes, damaged as a disk, a copy or a program does it."""
    out = bytearray(data)
    at, to = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    match how:
        case "flip" | "flips":
            for _ in range(1 if how == "flip" else rng.randint(2, 50)):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case "truncate":
            del out[at:]
        case "zeros":
            out[at:to] = bytes(to - at)
        case "insert":
            out[at:at] = rng.randbytes(rng.randint(1, 64))
        case "cut":
            del out[at : at + rng.randint(1, 64)]
        case "swap":
            size = min(64, to - at, len(out) - to)
            out[at : at + size], out[to : to + size] = out[to : to + size], out[at : at + size]
        case "empty":
            return b""
        case "rubbish":
            return rng.randbytes(rng.choice((1, 8, 100, len(data))))
        case "twice":
            return data + data
        case "utf-16":
            return data.decode(errors="replace").encode("utf-16")
        case "latin-1":
            out[at:at] = "é".encode("latin-1")
        case "mark":
            return b"\xef\xbb\xbf" + data
        case "null":
            out[at:at] = b"\0"
    return bytes(out)


def places(node, found=()):
    """All (container, key) of a JSON value."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in list(items):
        yield node, key
        if isinstance(child, dict | list):
            yield from places(child)


def odd_json(value, rng):
    """A JSON text that is one, with something odd in it."""
    how = rng.choice(("value", "value", "value", "delete", "rename", "more", "deep", "whole"))
    holder, key = rng.choice(list(places(value)))
    twice = rng.random() < 0.05
    if how == "value":
        holder[key] = rng.choice(ODD)
    elif how == "delete":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif how == "more" and isinstance(holder, dict):
        holder["more"] = rng.choice(ODD)
    elif how == "deep":
        depth = rng.choice((20, 50, 500, 50_000))
        holder[key] = "DEEP"
        return json.dumps(value).replace('"DEEP"', "[" * depth + "]" * depth).encode()
    elif how == "whole":
        value = rng.choice(ODD)
    text = json.dumps(value)
    return (text.replace("{", '{"seed": 1, "seed": 2, ', 1) if twice else text).encode()


def odd_checkpoint(data, rng):
    """A safetensors file that is one, with another header or other numbers."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    names = [name for name in header if name != "__metadata__"]
    one, two = rng.sample(names, 2)
    how = rng.choice(("swap", "dtype", "shape", "nan", "step", "meta", "rename", "drop", "header"))
    if how == "swap":
        header[one], header[two] = header[two], header[one]
    elif how == "dtype":
        header[one]["dtype"] = rng.choice(("I32", "U32", "F16", "BF16", "I64", "F8_E4M3"))
    elif how == "shape":
        header[one]["shape"] = rng.choice(([1, *header[one]["shape"]], [-1], [2**62], []))
    elif how == "nan":
        begin = header[one]["data_offsets"][0]
        body[begin : begin + 4] = struct.pack("<f", rng.choice((np.nan, np.inf, 1e30)))
    elif how == "rename":
        header[f"{one}x"] = header.pop(one)
    elif how == "drop":
        del header[one]
    elif how == "header":
        del header["__metadata__"][rng.choice(list(header["__metadata__"]))]
    else:
        meta = json.loads(header["__metadata__"]["meta"])
        if how == "step":
            meta["step"] = rng.choice((-1, 10**9, 1.5, "7", True, None, meta["step"] + 1))
            text = json.dumps(meta)
        else:
            text = odd_json(meta, rng).decode()
        header["__metadata__"]["meta"] = text
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(body)


def odd_csv(data, rng):
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = rng.choice(rows)
    how = rng.choice(("cell", "cell", "short", "long", "header", "quote", "text"))
    if how == "cell":
        row[rng.randrange(len(row))] = rng.choice(
            ("x", "", "nan", "1e999", "-1", "é", "0x1", "1,2")
        )
    elif how == "short":
        row.pop()
    elif how == "long":
        row.append("1")
    elif how == "header":
        rows[0][rng.randrange(len(rows[0]))] = rng.choice(("step", "", rows[0][0], "x"))
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    text = out.getvalue()
    return (text.replace(",", ',"', 1) if how == "quote" else text * (1 + (how == "text"))).encode()


def odd_arrays(data, rng):
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    arrays[name] = rng.choice((
        np.zeros(0), np.float64(1.0), np.array(["x"]), np.full((3, 3), np.nan), np.zeros((2, 2, 2)),
        np.array([{}], dtype=object), np.arange(3) + 1j,
    ))  # fmt: skip
    if rng.random() < 0.3:
        del arrays[name]
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def odd_netcdf(data, rng):
    out = io.BytesIO(data)
    with h5py.File(out, "r+") as file:
        how = rng.choice(("group", "attribute", "value", "variable"))
        if how == "group":
            del file[rng.choice(list(file))]
        elif how == "attribute":
            del file.attrs[rng.choice(list(file.attrs))]
        elif how == "value":
            file.attrs[rng.choice(("schema", "schema_version"))] = rng.choice((1.5, "x", [1, 2]))
        else:
            group = file[rng.choice(list(file))]
            del group[rng.choice(list(group))]
    return out.getvalue()


STRUCTURE = {
    "run.json": lambda data, rng: odd_json(json.loads(data), rng),
    "result": lambda data, rng: odd_json(json.loads(data), rng),
    "diagnostics": lambda data, rng: odd_json(json.loads(data), rng),
    "checkpoint": odd_checkpoint,
    "log": odd_csv,
    "epochs": odd_csv,
    "arrays": odd_arrays,
    "netcdf": odd_netcdf,
}


def damage(path, kind, rng):
    """Damage one file; says how."""
    data = path.read_bytes()
    how = rng.choice(("bytes", "bytes", "structure", "structure", "structure", "text", "place"))
    if how == "place":
        how = rng.choice(PLACES)
        path.unlink()
        match how:
            case "directory":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "loop":
                path.symlink_to(path.name)
            case "dangling":
                path.symlink_to("nowhere")
        return how
    if how == "structure":
        path.write_bytes(STRUCTURE[kind](data, rng))
    else:
        how = rng.choice(BYTES if how == "bytes" else TEXT)
        path.write_bytes(mangled(data, how, rng))
    return how


def restore(path, data):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(data)


def readers(kind, run, with_report):
    """Names and calls of what reads a kind of file."""

    def loaded():
        return vje_pyro.load(run).method.state_dict()

    def compared():
        return read_contender("a", [run])

    def resumed():
        return resume(run, ["training.progress=false"])

    common = [("compare", compared), ("resume", resumed)]
    own = {
        "run.json": [("load", loaded), *common],
        "checkpoint": [
            ("load", loaded),
            ("checkpoint", lambda: load_checkpoint(run / FILES["checkpoint"])),
            ("resume", resumed),
        ],
        "result": [
            ("result", lambda: Result.read(run / FILES["result"])),
            ("results", lambda: read_results(run / "results")),
            ("compare", compared),
        ],
        "log": [("log", lambda: read_log(run / FILES["log"])), *common],
        "epochs": [("log", lambda: read_log(run / FILES["epochs"])), *common],
        "diagnostics": [("section", lambda: diagnostics.section(run))],
        "arrays": [("section", lambda: diagnostics.section(run))],
        "netcdf": [("netcdf", lambda: load_netcdf(run / FILES["netcdf"]))],
    }[kind]
    report = [("report", lambda: write_report(vje_pyro.load(run), run.parent / "report.html"))]
    return own + report * with_report


def same(found, expected):
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], value) for name, value in expected.items()
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_or_read_as_they_were(tmp_path):
    seed = int(os.environ.get("VJE_CAMPAIGN_SEED") or random.randrange(2**32))
    print(f"seed {seed}")
    rng, counts, faults = random.Random(seed), Counter(), []
    whole, run = tmp_path / "whole", tmp_path / "run"
    short = (*TINY, "training.max_steps=7", "training.log_every=1", "training.progress=false")
    assert run_cli("train", *short, "loader.num_workers=0", f"run_dir={whole}") == 0
    assert run_cli("evaluate", str(whole), "--protocols", "knn-v1") == 0
    quick = ("--quick", "--images", "30", "--train-images", "40")
    assert run_cli("diagnose", str(whole), *quick) == 0
    shutil.copytree(whole, run)
    weights = vje_pyro.load(whole).method.state_dict()
    state = load_checkpoint(whole / FILES["checkpoint"])
    content = {path.relative_to(whole): path.read_bytes()
               for path in whole.rglob("*") if path.is_file()}  # fmt: skip
    for number in range(CASES):
        kind = rng.choice(list(FILES))
        how = damage(run / FILES[kind], kind, rng)
        print(number, kind, how, flush=True)  # what a crash of the process leaves
        refused = False
        for name, read in readers(kind, run, rng.random() < REPORTS):
            counts["readings"] += 1
            try:
                found = read()
            except VJEError:
                refused = True
                counts["refusals"] += 1
            except Exception:
                counts["tracebacks"] += 1
                faults.append(f"{number} {kind} {how} {name}: {traceback.format_exc(limit=-4)}")
            else:
                wrong = (name == "load" and not same(found, weights)) or (
                    name == "checkpoint"
                    and (not same(found.model, state.model) or found.step != state.step
                         or not all(same(found.optimizer[n], s)
                                    for n, s in state.optimizer.items()))
                )  # fmt: skip
                if wrong:
                    counts["silent"] += 1
                    faults.append(f"{number} {kind} {how} {name}: other numbers")
        counts["refused" if refused else "read"] += 1
        for path, data in content.items():
            if not (run / path).is_file() or (run / path).read_bytes() != data:
                restore(run / path, data)
    print(dict(counts))
    names = ("readings", "refusals", "refused", "read", "tracebacks", "silent")
    result = {
        "name": "damage",
        "seed": seed,
        "cases": CASES,
        **{name: counts[name] for name in names},
        "commit": git_commit(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults[:40])
    assert counts["refused"] > CASES / 2  # the damage is real
