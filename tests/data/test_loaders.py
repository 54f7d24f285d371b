"""Batches for training, and passes for evaluation, of arrays, files and tar shards."""

import gc
import os

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import (
    ImageArray,
    ImageFiles,
    ImageFolder,
    ResidentLoader,
    ShardFiles,
    StreamingLoader,
    Views,
    WebDataset,
    batches,
    pack_folder,
    select_images,
)
from vje_pyro.errors import DataError

N, BATCH = 22, 4


def array(n=N):
    """Image i is all of value i, so a crop tells where it is from."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 10, 10).clone()
    return ImageArray(images, torch.arange(n))


def noisy(n=N):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 10, 10), dtype=torch.uint8, generator=generator)
    return ImageArray(images, torch.arange(n))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for i, image in enumerate(noisy().images):
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((12 + i, 20)).save(root / f"{i:02d}.png")
    return root


def files(folder, **options):
    names = sorted(path.name for path in folder.glob("*.png"))
    return ImageFiles(folder, names, torch.arange(len(names)), image_size=8, **options)


def shards(folder, **options):
    """The same images in tar shards of five."""
    root = folder.parent / "shards"
    if not root.exists():
        pack_folder(folder, root, per_shard=5)
    return WebDataset(str(root), "train-*.tar", image_size=8, **options).split("train")


STORES = pytest.mark.parametrize("store", [files, shards])


def views():
    return Views(8, (0.5,) * 3, (0.25,) * 3)


def resident(data, **options):
    return ResidentLoader(data, BATCH, **({"seed": 1} | options))


def streaming(data, batch=BATCH, **options):
    return StreamingLoader(data, batch, **({"seed": 1, "views": views()} | options))


KINDS = pytest.mark.parametrize("make", [resident, streaming])


def steps(loader, epoch=0, start_step=0):
    return [(x.clone(), i.clone()) for x, i in loader.epoch(epoch, start_step)]


def order(loader, epoch=0):
    return torch.cat([i for _, i in steps(loader, epoch)])


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    )


@KINDS
def test_an_epoch_takes_each_image_at_most_once_and_drops_the_rest(make):
    loader = make(array())
    made = steps(loader)
    assert len(made) == loader.steps_per_epoch == 5
    assert len(order(loader).unique()) == 20
    for images, chosen in made:
        assert torch.equal(images.flatten(1)[:, 0].long(), chosen)
    assert torch.equal(order(make(array(20))).sort().values, torch.arange(20))


@KINDS
def test_order_depends_on_seed_and_epoch(make):
    base = order(make(array()))
    assert torch.equal(base, order(make(array())))
    assert torch.equal(base, order(resident(array())))
    assert not torch.equal(base, order(make(array()), 1))
    assert not torch.equal(base, order(make(array(), seed=2)))


@KINDS
def test_ranks_share_the_batches_of_one_process(make):
    whole = steps(make(noisy()))
    ranks = [steps(make(noisy(), rank=r, world_size=2)) for r in range(2)]
    for step, expected in enumerate(whole):
        for part in range(2):
            mine = [ranks[rank][step][part] for rank in range(2)]
            assert torch.equal(torch.cat(mine), expected[part])
            assert len(mine[0]) == BATCH // 2


@KINDS
def test_resume_in_the_middle_is_bit_equal(make):
    whole = steps(make(noisy()), epoch=3)
    for start in (0, 1, 4, 5):
        assert same(steps(make(noisy()), 3, start), whole[start:])
    loader = make(noisy())
    for _ in loader.epoch(0):
        break
    assert same(steps(loader, 3), whole)  # an abandoned epoch leaves nothing behind


@KINDS
@pytest.mark.parametrize(
    ("count", "options", "start", "error", "message"),
    [
        (3, {}, 0, DataError, "3 images are fewer than one batch of 4"),
        (N, {"rank": 2, "world_size": 2}, 0, ValueError, "world_size"),
        (N, {"world_size": 3}, 0, ValueError, "divided equally among 3"),
        (N, {}, -1, ValueError, "start_step"),
        (N, {}, 6, ValueError, "start_step"),
    ],
)
def test_bad_arguments(make, count, options, start, error, message):
    with pytest.raises(error, match=message):
        steps(make(array(count), **options), 0, start)


def test_crops_depend_on_seed_epoch_and_view(folder):
    (first, _), *_ = steps(streaming(files(folder)))
    assert first.shape == (BATCH, 2, 3, 8, 8)
    assert first.dtype == torch.uint8
    assert not torch.equal(first[:, 0], first[:, 1])
    crops = {}
    for epoch, seed in ((0, 1), (1, 1), (0, 2)):
        for images, indices in steps(streaming(files(folder), seed=seed), epoch):
            crops |= {(epoch, seed, i): x for x, i in zip(images, indices.tolist(), strict=True)}
    for i in range(N):
        made = [crops[key] for key in crops if key[2] == i]
        assert len(made) < 2 or not torch.equal(made[0], made[1])


@STORES
def test_workers_change_nothing(folder, store):
    """Over two epochs of workers that stay alive, one of them abandoned and one resumed."""
    alone, helped = streaming(store(folder)), streaming(store(folder), num_workers=2)
    assert same(steps(alone, 0), steps(helped, 0))
    for _ in helped.epoch(1):
        break
    assert same(steps(alone, 2, start_step=3), steps(helped, 2, start_step=3))


def test_loading_leaves_the_global_generator_alone(folder):
    before = torch.get_rng_state()
    steps(resident(noisy()))
    steps(streaming(files(folder)))
    list(batches(files(folder), 10))
    assert torch.equal(torch.get_rng_state(), before)


@STORES
def test_what_is_read(folder, store, monkeypatch):
    """Skipped steps are not, and each image by one process only."""
    read = []
    kind = {files: ImageFiles, shards: ShardFiles}[store]
    contents = kind.contents
    monkeypatch.setattr(kind, "contents", lambda self, i: read.extend(i) or contents(self, i))
    steps(streaming(store(folder)), 0, start_step=4)
    assert len(read) == BATCH
    read.clear()
    for rank in range(2):
        steps(streaming(store(folder).subset(range(20)), rank=rank, world_size=2))
    assert sorted(read) == list(range(20))


def test_a_streamed_crop_is_a_crop():
    """Of an image that is black on the left and white on the right."""
    images = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    images[..., 8:] = 255
    data = ImageArray(images, torch.zeros(8, dtype=torch.int64))
    ((crops, _),) = steps(streaming(data, 8, views=Views(8, (0.5,), (0.5,))))
    assert crops.shape == (8, 2, 1, 8, 8)
    assert crops.float().mean((2, 3, 4)).flatten().std() > 20
    rows = crops.float()
    assert (rows == rows[..., :1, :]).all()
    assert (rows.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("num_workers", [0, 2])
@STORES
def test_damaged_images_are_replaced_counted_and_limited(folder, store, num_workers):
    for name in ("03.png", "04.png"):
        (folder / name).write_bytes(b"damaged")
    if store is files:
        (folder / "04.png").unlink()
        os.mkfifo(folder / "04.png")  # opening it would block
        bad = [3, 4]
    else:
        bad = np.flatnonzero(shards(folder).index.sizes == 7).tolist()
    split = store(folder, max_corrupt=2)
    ((_, indices),) = steps(streaming(split, len(split), num_workers=num_workers))
    assert sorted(split.corrupt) == sorted(split.name(i) for i in bad)
    assert not set(bad) & set(indices.tolist())
    assert len(indices) == len(split) == N
    strict = store(folder, max_corrupt=1)
    with pytest.raises(DataError, match=r"2 corrupt images.*max_corrupt=1"):
        steps(streaming(strict, len(split), num_workers=num_workers))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_goes_away_is_named(folder, num_workers):
    split = shards(folder)
    loader = streaming(split, num_workers=num_workers)
    for path in (folder.parent / "shards").glob("*.tar"):
        path.unlink()
    for read in (lambda: steps(loader), lambda: list(batches(split, 4, num_workers))):
        with pytest.raises(DataError, match=r"^missing shard .*train-00000\d\.tar.*remove it"):
            read()


def test_workers_of_a_loader_in_a_cycle_end(folder):
    made = streaming(files(folder), num_workers=2)
    steps(made)
    made.itself = made
    workers = made._loader._iterator._workers
    del made
    gc.collect()
    assert [worker.exitcode for worker in workers] == [0, 0]  # not terminated


# --------------------------------------------------------------------------------------- evaluation


def test_batches_of_an_array():
    made = list(batches(array(), 10))
    assert [len(x) for x, _ in made] == [10, 10, 2]
    assert torch.equal(torch.cat([x for x, _ in made]), array().images)
    assert torch.equal(torch.cat([y for _, y in made]), array().labels)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_files_leave_out_the_damaged(folder, num_workers):
    (folder / "03.png").write_bytes(b"damaged")
    (folder / "04.png").unlink()
    (folder / "04.png").symlink_to("/dev/zero")
    split = files(folder)
    made = list(batches(split, 10, num_workers))
    assert torch.cat([y for _, y in made]).tolist() == [i for i in range(N) if i not in (3, 4)]
    images = torch.cat([x for x, _ in made])
    assert torch.equal(images[0], split.tensor(0))
    assert torch.equal(images[3], split.tensor(5))
    assert sorted(split.corrupt) == ["03.png", "04.png"]


def test_all_files_are_damaged(folder):
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    split = files(folder, max_corrupt=N)
    for read in (
        lambda: list(batches(split, 10)),
        lambda: steps(streaming(split)),
        lambda: select_images(split, [1, 1], 3, 4),
    ):
        with pytest.raises(DataError, match=f"none of the {N} images"):
            read()
    assert list(batches(split.subset([]), 10)) == []


def test_selected_images():
    chosen, kept = select_images(array(5), [3, 1], 3, 10)
    assert chosen[:, 0, 0, 0].tolist() == kept.tolist() == [3, 1]


def test_selected_files_have_the_size_and_channels_asked_for(tmp_path):
    for name, value in (("a", 10), ("b", 200), ("c", 30)):
        Image.fromarray(np.full((6, 8), value, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    split = ImageFolder(tmp_path, image_size=4, max_corrupt=1).split("train")
    chosen, kept = select_images(split, torch.tensor([1, 0]), 3, 4)
    assert (kept.tolist(), chosen.shape, chosen.dtype) == ([1, 0], (2, 3, 4, 4), torch.uint8)
    assert chosen[:, 0, 0, 0].tolist() == [200, 10]
    (tmp_path / "b.png").unlink()  # vanishes after it was listed
    chosen, kept = select_images(split, [2, 1, 0, 2], 3, 4)
    assert (kept.tolist(), len(chosen), list(split.corrupt)) == ([2, 0, 2], 3, ["b.png"])
    (tmp_path / "c.png").unlink()
    with pytest.raises(DataError, match=r"2 corrupt images.*max_corrupt=1: b\.png.*c\.png"):
        select_images(split, [0, 1, 2], 3, 4)
