"""Batches from tar shards: the same for every number of processes and workers, resumable."""

import gc
import itertools
import logging
import multiprocessing
import os
import pickle
import time

import pytest
import torch
from tars import picture

from vje_pyro.data import ShardLoader, Views, WebDataset, index_shards, shards
from vje_pyro.errors import DataError

pytest.importorskip("webdataset")

COUNTS, BATCH = [9, 5, 7, 1, 12, 8], 8
N = sum(COUNTS)  # 42: five steps of 8, two images left out


@pytest.fixture
def root(shards, tmp_path):
    shards(COUNTS)
    index_shards(tmp_path).save(tmp_path / "index.npz")
    return tmp_path


def split(root, **options):
    settings = {"image_size": 8, "streams": 4, "shuffle_buffer": 12} | options
    return WebDataset(str(root), "train-*.tar", **settings).split("pretrain")


def loader(data, **options):
    views = Views(8, (0.5,) * 3, (0.25,) * 3)
    return ShardLoader(data, BATCH, **({"seed": 1, "views": views} | options))


def steps(made, epoch=0, start_step=0):
    return [(x.clone(), i.clone()) for x, i in made.epoch(epoch, start_step)]


def order(made, epoch=0):
    return torch.cat([i for _, i in steps(made, epoch)]).tolist()


def same(a, b):
    return len(a) == len(b) > 0 and all(
        torch.equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    )


def test_an_epoch_takes_each_image_at_most_once(root):
    made = loader(split(root))
    assert made.steps_per_epoch == 5
    batches = steps(made)
    assert [tuple(x.shape) for x, _ in batches] == [(8, 2, 3, 8, 8)] * 5
    indices = torch.cat([i for _, i in batches])
    assert len(indices.unique()) == 40
    for crops, chosen in batches:  # each crop is of its image
        assert torch.equal(crops.flatten(1)[:, 0].long(), chosen)
    left = [set(range(N)) - set(order(made, epoch)) for epoch in range(6)]
    assert len(set.union(*left)) > 4  # others in each epoch


def test_order_depends_on_seed_and_epoch_and_mixes_shards(root):
    data = split(root)
    base = order(loader(data), 0)
    assert base == order(loader(data), 0)
    assert base != order(loader(data), 1)
    assert base != order(loader(data, seed=2), 0)
    assert base != order(loader(split(root, shuffle_buffer=0)), 0)
    shards_of = data.index.shard_of[base[:BATCH]]
    assert len(set(shards_of.tolist())) >= 3


def test_without_a_buffer_streams_are_read_as_they_are_stored(root):
    data = split(root, shuffle_buffer=0, streams=1)
    taken = order(loader(data))
    breaks = [b - a for a, b in itertools.pairwise(taken) if b - a != 1]
    assert len(breaks) < len(COUNTS)


def test_buffer_bounds_what_is_held_and_how_far_an_image_moves(root):
    made = loader(split(root, shuffle_buffer=16, streams=2))
    reading, giving = made._plan.lay_out(0)
    assert reading.shape == giving.shape == (2, 20)
    assert (giving.argsort(1) - torch.arange(20).numpy()).max() < 8
    assert sorted(giving[0].tolist()) == list(range(20))
    assert giving[0].tolist() != list(range(20))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(root, world_size):
    whole = steps(loader(split(root)), 2)
    ranks = [
        steps(loader(split(root), rank=r, world_size=world_size), 2) for r in range(world_size)
    ]
    for step, (images, indices) in enumerate(whole):
        assert torch.equal(torch.cat([made[step][1] for made in ranks]), indices)
        assert torch.equal(torch.cat([made[step][0] for made in ranks]), images)
        assert {len(made[step][0]) for made in ranks} == {BATCH // world_size}
    taken = [set(torch.cat([i for _, i in made]).tolist()) for made in ranks]
    assert sum(map(len, taken)) == len(set.union(*taken)) == 40


def test_each_process_reads_its_part_only(root, monkeypatch):
    opened = []
    start = shards.Shard.__init__
    monkeypatch.setattr(shards.Shard, "__init__", lambda s, x: opened.append(x) or start(s, x))
    for rank in range(2):
        steps(loader(split(root), rank=rank, world_size=2))
    assert len(opened) <= len(COUNTS) + 3  # a shard that a stream's end cuts is opened twice


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(root, num_workers):
    """Over two epochs of workers that stay alive, one of them abandoned and one resumed."""
    data = split(root)
    alone, helped = loader(data), loader(data, num_workers=num_workers)
    assert same(steps(alone, 0), steps(helped, 0))
    for _ in helped.epoch(1):
        break
    assert same(steps(alone, 2, start_step=3), steps(helped, 2, start_step=3))


def test_idle_workers_are_named(root, caplog):
    with caplog.at_level(logging.WARNING):
        made = loader(split(root, streams=2), num_workers=3)
    assert made.slots == 2
    assert "1 of 3 workers have no stream to read: data.streams=3" in caplog.text


@pytest.mark.parametrize("start", [0, 1, 4])
def test_resume_in_the_middle_is_bit_equal(root, start):
    whole = steps(loader(split(root)), epoch=3)
    assert same(steps(loader(split(root)), 3, start), whole[start:])
    assert steps(loader(split(root)), 3, 5) == []
    with pytest.raises(ValueError, match="start_step"):
        steps(loader(split(root)), 3, 6)


def test_a_resumed_epoch_reads_little_again(root, monkeypatch):
    read = []
    content = shards.Shard.read
    monkeypatch.setattr(shards.Shard, "read", lambda s, *a: read.append(a) or content(s, *a))
    steps(loader(split(root)), 0, start_step=4)
    assert len(read) == BATCH  # nothing but what is still to come


def test_streams_behind_a_command_give_the_same(root, monkeypatch):
    monkeypatch.setenv("VJE_ALLOW_PIPE", "1")
    names = [f"pipe:cat {root}/train-{n:03d}.tar" for n in range(len(COUNTS))]
    index = index_shards("", "::".join(names))
    index.save(root / "pipes.npz")
    source = WebDataset(
        "", "pipe:*", index=str(root / "pipes.npz"), image_size=8, streams=4, shuffle_buffer=12
    )
    piped = source.split("pretrain")
    assert same(steps(loader(piped, num_workers=2), 1), steps(loader(split(root)), 1))
    assert same(steps(loader(piped), 1, 2), steps(loader(split(root)), 1, 2))


def test_limited_data_are_read_in_the_same_way(root):
    data = split(root, train_limit=20)
    taken = order(loader(data))
    assert len(taken) == len(set(taken)) == 16
    assert max(taken) < 20


def test_streams_of_one_shard_and_of_the_default_number(root):
    one = WebDataset(str(root), "train-000.tar", image_size=8, streams=8).split("train")
    assert sorted(order(loader(one)))[:-1] == sorted(set(order(loader(one))))[:-1]
    assert loader(split(root, streams=None))._plan.streams == 4  # divides 8, at most 6 shards


def test_damaged_images_are_replaced_counted_and_limited(root):
    index = split(root).index
    for name, sample in (("train-000.tar", 3), ("train-004.tar", 30)):
        content = bytearray((root / name).read_bytes())
        start = int(index.offsets[sample])
        content[start : start + 20] = b"x" * 20
        (root / name).write_bytes(content)
    lost = {"train-000.tar#3", "train-004.tar#8"}
    data = split(root, max_corrupt=2)
    made = loader(data, num_workers=2)
    for epoch in range(3):
        indices = order(made, epoch)
        assert not {3, 30} & set(indices)
        assert len(indices) == 40
    assert set(data.corrupt) == lost
    strict = loader(split(root, max_corrupt=1))
    with pytest.raises(DataError, match=r"2 corrupt images.*max_corrupt=1.*train-00"):
        _ = [order(strict, epoch) for epoch in range(3)]


def test_a_shard_that_goes_away(root):
    data = split(root)
    made = loader(data, num_workers=2)
    for number in range(len(COUNTS)):
        os.rename(root / f"train-{number:03d}.tar", root / f"{number}.gone")
    with pytest.raises(DataError, match=r"^missing shard .*train-00\d\.tar.*leave it out"):
        steps(made)


def test_too_few_shards_and_streams_that_do_not_fit(root):
    with pytest.raises(DataError, match=r"6 shards are fewer than the 1 × 7 .*num_workers=6"):
        loader(split(root), num_workers=7)
    one = WebDataset(str(root), "train-000.tar", image_size=8, streams=2).split("train")
    with pytest.raises(DataError, match=r"1 shards are fewer than the 2 × 1 .*at most 1 proc"):
        loader(one, world_size=2)
    with pytest.raises(DataError, match=r"data.streams=3 must divide .*=8 .* set data.streams=8"):
        loader(split(root, streams=3))
    with pytest.raises(DataError, match=r"multiple of the number of processes, 4"):
        loader(split(root, streams=2), world_size=4)
    with pytest.raises(DataError, match="5 images are fewer than one batch of 8"):
        loader(WebDataset(str(root), "train-001.tar", image_size=8).split("train"))


def test_an_open_split_can_be_sent_to_a_process(root):
    data = split(root)
    first = data.content(0)
    assert first == picture(0)
    assert pickle.loads(pickle.dumps(data)).content(0) == first


def test_workers_of_a_loader_in_a_cycle_end_at_once(root):
    made = loader(split(root), num_workers=2)
    steps(made)
    made.itself = made
    del made
    before = time.monotonic()
    gc.collect()
    assert time.monotonic() - before < 4  # torch waits five seconds for a worker that hangs
    assert not multiprocessing.active_children()


def test_loading_leaves_the_global_generator_alone(root):
    before = torch.get_rng_state()
    steps(loader(split(root)))
    assert torch.equal(torch.get_rng_state(), before)
