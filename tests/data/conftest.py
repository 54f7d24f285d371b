"""Tar shards made in a moment."""

import json

import pytest
from tars import picture, write_tar


@pytest.fixture
def shards(tmp_path):
    """Makes shards ``NAME-000.tar`` … of images whose grey value counts them through."""

    def make(counts, name="train", root=tmp_path, label="cls", suffix="png", first=0):
        value = first
        for number, count in enumerate(counts):
            members = []
            for _ in range(count):
                members.append((f"{value:06d}.{suffix}", picture(value % 256, suffix)))
                if label == "cls":
                    members.append((f"{value:06d}.cls", str(value % 3).encode()))
                elif label == "json":
                    content = {"label": "cat" if value % 2 else "ant", "x": 1}
                    members.append((f"{value:06d}.json", json.dumps(content).encode()))
                value += 1
            write_tar(root / f"{name}-{number:03d}.tar", members)
        return root

    return make
