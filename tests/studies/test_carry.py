"""Files on their way: archives and wheels."""

import io
import tarfile
from contextlib import suppress

import pytest
from made_up import record

from studies import carry
from studies.store import Store
from vje_pyro.errors import DataError, VJEError


def test_results_go_there_and_back(tmp_path):
    here, there, archive = tmp_path / "here", tmp_path / "there", tmp_path / "out" / "r.tar.gz"
    store = Store(here / "docs" / "results" / "cuda")
    store.add("x", [record("a", "knn-v1", {"accuracy": 0.5})])
    training = here / "runs" / "cuda" / "x" / "a" / "seed0"
    (training / "logs").mkdir(parents=True)
    (training / "logs" / "epochs.csv").write_text("epoch\n1\n")
    (training / "last.safetensors").write_bytes(b"weights")
    assert carry.main(["results", str(archive), "--root", str(here)]) == 0
    assert carry.main(["unpack", str(archive), "--to", str(there)]) == 0
    assert Store(there / "docs" / "results" / "cuda").read("x") == store.read("x")
    assert {p.name for p in there.rglob("*") if p.is_file()} == {
        "x.jsonl", "common.jsonl", "epochs.csv",
    }  # fmt: skip


def test_data_come_in_parts_of_like_size(tmp_path, capsys):
    root, folder = tmp_path / "data", tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"data_batch_{number}").write_bytes(bytes(1000 + number))
    (root / "cifar10h.npz").write_bytes(bytes(2000))
    (root / "others").write_bytes(bytes(9))
    archives = carry.pack_data(root, tmp_path / "parts", 2)
    sizes = []
    for archive in archives:
        with tarfile.open(archive) as tar:
            sizes.append(sum(member.size for member in tar))
    assert max(sizes) - min(sizes) < 1100
    back = tmp_path / "back"
    assert carry.main(["unpack", *map(str, archives[::-1]), "--to", str(back)]) == 0
    found = {p.relative_to(back).as_posix(): p.stat().st_size for p in back.rglob("*.*")}
    assert found == {"cifar10h.npz": 2000}
    assert len(list((back / folder.name).iterdir())) == 6
    assert "6 files" not in capsys.readouterr().err
    with pytest.raises(DataError, match="holds none of"):
        carry.pack_data(tmp_path / "nowhere", tmp_path, 2)


@pytest.mark.parametrize("name", ["../x.json", "/x.json"])
def test_files_that_belong_elsewhere_stay_inside(tmp_path, name):
    archive, folder = tmp_path / "foreign.tar.gz", tmp_path / "to"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with suppress(DataError):  # or it is unpacked below the folder
        carry.unpack(archive, folder)
    assert not (tmp_path / "x.json").exists()


def test_no_archive(tmp_path, capsys):
    (tmp_path / "broken.tar.gz").write_bytes(b"not a tar")
    for name in ("broken.tar.gz", "absent.tar.gz"):
        assert carry.main(["unpack", str(tmp_path / name), "--to", str(tmp_path)]) == 1
        assert "cannot be unpacked" in capsys.readouterr().err
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type = tarfile.SYMTYPE
        tar.addfile(link)
    with pytest.raises(DataError, match="no file"):
        carry.unpack(tmp_path / "link.tar.gz", tmp_path)


def test_wheels_are_those_of_the_constraints(tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# a==0\nPyro.PPL==1.9\nscipy==1.17\n")
    assert carry.pinned(["pyro-ppl"], constraints) == ["Pyro.PPL==1.9"]
    with pytest.raises(VJEError, match="torch"):
        carry.pinned(["scipy", "torch"], constraints)
    download, build = carry.wheel_commands(tmp_path, ["scipy"])
    assert {"--no-deps", "--only-binary=:all:", "3.12"} <= set(download)
    assert any(word.startswith("scipy==") for word in download)
    assert [word.split("==")[0] for word in build if "==" in word] == ["antlr4-python3-runtime"]
