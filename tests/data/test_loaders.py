import os

import numpy as np
import pytest
import torch
from PIL import Image

from vje_pyro.data import ImageArray, ImageFiles, ResidentLoader, StreamingLoader, Views, batches
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
    for i, image in enumerate(noisy().images):
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((12 + i, 20)).save(tmp_path / f"{i:02d}.png")
    return tmp_path


def files(folder, **options):
    names = sorted(path.name for path in folder.glob("*.png"))
    return ImageFiles(folder, names, torch.arange(len(names)), image_size=8, **options)


def views():
    return Views(8, (0.5,) * 3, (0.25,) * 3)


def resident(data, **options):
    return ResidentLoader(data, BATCH, **({"seed": 1} | options))


def streaming(data, **options):
    return StreamingLoader(data, BATCH, **({"seed": 1, "views": views()} | options))


KINDS = pytest.mark.parametrize("make", [resident, streaming])


def steps(loader, epoch=0, start_step=0):
    return [(x.clone(), i.clone()) for x, i in loader.epoch(epoch, start_step)]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    )


@KINDS
def test_an_epoch_takes_each_image_at_most_once_and_drops_the_rest(make):
    loader = make(array())
    assert loader.steps_per_epoch == 5
    made = steps(loader)
    assert len(made) == 5
    indices = torch.cat([i for _, i in made])
    assert len(indices.unique()) == 20
    for images, chosen in made:
        assert torch.equal(images.flatten(1)[:, 0].long(), chosen)


def test_epoch_covers_every_image_when_it_divides():
    indices = torch.cat([i for _, i in steps(resident(array(20)))])
    assert torch.equal(indices.sort().values, torch.arange(20))


@KINDS
def test_order_depends_on_seed_and_epoch(make):
    def order(loader, epoch):
        return torch.cat([i for _, i in steps(loader, epoch)]).tolist()

    base = order(make(array()), 0)
    assert base == order(make(array()), 0)
    assert base != order(make(array()), 1)
    assert base != order(make(array(), seed=2), 0)


def test_both_loaders_take_the_same_images():
    for (_, a), (_, b) in zip(steps(resident(array())), steps(streaming(array())), strict=True):
        assert torch.equal(a, b)


@KINDS
def test_ranks_share_the_batches_of_one_process(make):
    whole = steps(make(noisy()))
    ranks = [steps(make(noisy(), rank=r, world_size=2)) for r in range(2)]
    for step, (images, indices) in enumerate(whole):
        assert torch.equal(torch.cat([ranks[r][step][1] for r in range(2)]), indices)
        assert torch.equal(torch.cat([ranks[r][step][0] for r in range(2)]), images)
        assert ranks[0][step][0].shape[0] == BATCH // 2


@KINDS
def test_resume_in_the_middle_is_bit_equal(make):
    whole = steps(make(noisy()), epoch=3)
    for start in (0, 1, 4, 5):
        assert same(steps(make(noisy()), 3, start), whole[start:])


@KINDS
def test_an_abandoned_epoch_leaves_nothing_behind(make):
    loader = make(noisy())
    for _ in loader.epoch(0):
        break
    assert same(steps(loader, 1), steps(make(noisy()), 1))


@KINDS
@pytest.mark.parametrize("start", [-1, 6])
def test_start_beyond_the_epoch(make, start):
    with pytest.raises(ValueError, match="start_step"):
        steps(make(array()), 0, start)


@KINDS
def test_bad_arguments(make):
    with pytest.raises(DataError, match="3 images are fewer than one batch of 4"):
        make(array(3))
    with pytest.raises(ValueError, match="world_size"):
        make(array(), rank=2, world_size=2)
    with pytest.raises(ValueError, match="shared equally among 3"):
        make(array(), rank=0, world_size=3)


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


def test_workers_change_nothing(folder):
    """Over two epochs of workers that stay alive, one of them abandoned and one resumed."""
    alone, helped = streaming(files(folder)), streaming(files(folder), num_workers=2)
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


def test_skipped_steps_are_not_decoded(folder, monkeypatch):
    decoded = []
    image = ImageFiles.image
    monkeypatch.setattr(ImageFiles, "image", lambda self, i: decoded.append(i) or image(self, i))
    steps(streaming(files(folder)), 0, start_step=4)
    assert len(decoded) == BATCH


def test_each_file_is_read_by_one_process(folder, monkeypatch):
    decoded = []
    image = ImageFiles.image
    monkeypatch.setattr(ImageFiles, "image", lambda self, i: decoded.append(i) or image(self, i))
    for rank in range(2):
        data = files(folder).subset(range(20))
        steps(streaming(data, rank=rank, world_size=2))
    assert sorted(decoded) == list(range(20))


def test_a_streamed_crop_is_a_crop():
    """Of an image that is black on the left and white on the right."""
    images = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    images[..., 8:] = 255
    data = ImageArray(images, torch.zeros(8, dtype=torch.int64))
    loader = StreamingLoader(data, 8, seed=0, views=Views(8, (0.5,), (0.5,)))
    (crops, _), *_ = steps(loader)
    means = crops.float().mean((2, 3, 4)).flatten()
    assert means.std() > 20
    rows = crops.float()
    assert (rows == rows[..., :1, :]).all()
    assert (rows.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_corrupt_files_are_replaced_counted_and_limited(folder, num_workers):
    for name in ("03.png", "04.png"):
        (folder / name).write_bytes(b"damaged")
    split = files(folder, max_corrupt=2)
    loader = StreamingLoader(split, N, seed=0, views=views(), num_workers=num_workers)
    ((_, indices),) = steps(loader)
    assert sorted(split.corrupt) == ["03.png", "04.png"]
    assert not {3, 4} & set(indices.tolist())
    assert indices.tolist().count(5) == 3
    strict = files(folder, max_corrupt=1)
    with pytest.raises(DataError, match=r"2 corrupt images.*max_corrupt=1"):
        steps(StreamingLoader(strict, N, seed=0, views=views(), num_workers=num_workers))


def test_batches_of_an_array():
    made = list(batches(array(), 10))
    assert [len(x) for x, _ in made] == [10, 10, 2]
    assert torch.equal(torch.cat([x for x, _ in made]), array().images)
    assert torch.equal(torch.cat([y for _, y in made]), array().labels)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_files_leave_out_the_damaged(folder, num_workers):
    (folder / "03.png").write_bytes(b"damaged")
    made = list(batches(files(folder), 10, num_workers))
    labels = torch.cat([y for _, y in made])
    assert labels.tolist() == [i for i in range(N) if i != 3]
    images = torch.cat([x for x, _ in made])
    assert torch.equal(images[0], files(folder).tensor(0))
    assert np.array_equal(images[3].numpy(), files(folder).tensor(4).numpy())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_that_may_not_be_opened_do_not_block(folder, num_workers):
    for name in ("03.png", "04.png"):
        (folder / name).unlink()
    os.mkfifo(folder / "03.png")
    (folder / "04.png").symlink_to("/dev/zero")
    split = files(folder)
    steps(StreamingLoader(split, N, seed=0, views=views(), num_workers=num_workers))
    assert len(torch.cat([y for _, y in batches(split, 10, num_workers)])) == N - 2
    assert sorted(split.corrupt) == ["03.png", "04.png"]


def test_batches_of_files_that_are_all_damaged(folder):
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=f"none of the {N} images"):
        list(batches(files(folder, max_corrupt=N), 10))
    assert list(batches(files(folder).subset([]), 10)) == []
