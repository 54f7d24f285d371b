import numpy as np
import pytest
import torch
from pyro.distributions import Independent, Normal
from torch import nn

from vje_pyro.data.arrays import ImageArray
from vje_pyro.data.files import ImageFiles
from vje_pyro.errors import DataError, NonFiniteError, VJEError
from vje_pyro.evaluation import Features, extract, pixels
from vje_pyro.method import Method, ProbabilisticMethod


class Net(ProbabilisticMethod):
    """A method with everything that behaves differently in training."""

    infer = log_likelihood = loss = None

    def __init__(self):
        encoder = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5))
        encoder.num_features = 5
        super().__init__(encoder)
        self.norm = nn.BatchNorm1d(5, affine=False)
        self.teacher = nn.Sequential(nn.BatchNorm1d(5))
        self.teacher.eval()  # frozen while the rest trains

    def embed(self, images):
        assert not torch.is_grad_enabled()
        return self.encoder(images).mean((2, 3))

    def encode(self, images):
        return self.norm(self.embed(images))


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (37, 3, 6, 6), dtype=torch.uint8, generator=generator)
    return ImageArray(images, torch.arange(37) % 4)


@pytest.fixture
def method():
    torch.manual_seed(0)
    method = Net()
    method.norm.running_mean.fill_(0.3)
    return method


def normalize(images):
    return images.float() / 255 - 0.5


def test_shapes_and_provenance(method, split):
    features = extract(method, split, normalize, batch_size=10)
    assert (features.x.shape, features.x.dtype) == ((37, 5), np.float32)
    assert features.y.tolist() == split.labels.tolist()
    assert features.y.dtype == np.int64
    assert features.digest == split.digest()


def test_batch_size_does_not_matter(method, split):
    whole = extract(method, split, normalize)
    assert np.ptp(whole.x, axis=0).min() > 0.01
    for batch_size in (1, 10, 37):
        x = extract(method, split, normalize, batch_size=batch_size).x
        assert np.allclose(x, whole.x, atol=1e-6)


def test_nothing_about_the_method_changes(method, split):
    method.train()
    method.teacher.eval()
    modes = {name: m.training for name, m in method.named_modules()}
    state = {name: t.clone() for name, t in method.state_dict().items()}
    extract(method, split, normalize)
    assert {name: m.training for name, m in method.named_modules()} == modes
    assert modes["encoder.1"]
    assert not modes["teacher.0"]
    assert all(torch.equal(t, state[name]) for name, t in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def test_modes_are_restored_after_an_error(method, split):
    method.train()
    with pytest.raises(RuntimeError):
        extract(method, split, lambda images: normalize(images)[:, :1])
    assert method.training
    assert method.encoder.training


def test_before_and_after_the_batch_norm(method, split):
    encoder = extract(method, split, normalize, features="encoder").x
    norm = extract(method, split, normalize, features="batch-norm").x
    eps = method.norm.eps
    assert np.allclose(norm, (encoder - 0.3) / np.sqrt(1 + eps), atol=1e-6)


def test_features_that_the_method_does_not_offer(method, split):
    with pytest.raises(ValueError, match=r"Net has no features 'z'.*'encoder', 'batch-norm'"):
        extract(method, split, normalize, features="z")
    method.__class__ = type("Plain", (Method,), {"embed": Net.embed, "loss": None})
    with pytest.raises(ValueError, match=r"Plain has no features 'batch-norm'.*\['encoder'\]"):
        extract(method, split, normalize, features="batch-norm")


@pytest.fixture
def files(split, tmp_path):
    """The same split, decoded on demand."""
    names = [f"{i:02}.png" for i in range(len(split))]
    for name, image in zip(names, split.decoded(range(len(split))), strict=True):
        image.save(tmp_path / name)
    return ImageFiles(tmp_path, names, split.labels, image_size=6, max_corrupt=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_split_on_disk(method, split, files, num_workers):
    expected = extract(method, split, normalize)
    features = extract(method, files, normalize, batch_size=8, num_workers=num_workers)
    assert np.allclose(features.x, expected.x, atol=1e-6)
    assert np.array_equal(features.y, expected.y)
    assert features.digest == files.digest()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_files_are_left_out_with_their_labels(method, split, files, num_workers):
    for name in files.names[3], files.names[20]:
        (files.root / name).write_bytes(b"not an image")
    good = [i for i in range(37) if i not in (3, 20)]
    expected = extract(method, split.subset(good), normalize)
    features = extract(method, files, normalize, batch_size=1, num_workers=num_workers)
    assert np.allclose(features.x, expected.x, atol=1e-6)
    assert np.array_equal(features.y, expected.y)
    assert set(files.corrupt) == {"03.png", "20.png"}


def test_too_many_damaged_files(method, files):
    for name in files.names[10:13]:
        (files.root / name).write_bytes(b"")
    with pytest.raises(DataError):
        extract(method, files, normalize)


def test_empty_split(method, split):
    with pytest.raises(DataError, match="no images to embed"):
        extract(method, split.subset([]), normalize)


def test_pixels(split):
    features = pixels(split)
    assert features.x.shape == (37, 108)
    assert features.x.dtype == np.float32
    assert np.allclose(features.x[5] * 255, split.images[5].flatten().numpy())
    assert features.x.max() <= 1
    assert features.digest == split.digest()


def test_non_finite_features_are_refused(method, split):
    method.encoder[0].weight.data[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="37 of 37 images have a NaN"):
        extract(method, split, normalize)
    x = np.zeros((4, 2), np.float32)
    x[2, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"1 of 4 .* the first is image 2"):
        Features(x, np.zeros(4, np.int64))


def test_features_must_fit_labels():
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(3,\)"):
        Features(np.zeros((4, 2), np.float32), np.zeros(3, np.int64))


def test_posteriors_on_request(method, split):
    class Probabilistic(Net):
        def posterior(self, images):
            loc = self.embed(images)
            return Independent(Normal(loc, loc.abs() + 1), 1)

    method.__class__ = type("Plain", (Method,), {"embed": Net.embed, "loss": None})
    with pytest.raises(VJEError, match="Plain has no posterior"):
        extract(method, split, normalize, posterior=True)
    plain = extract(method, split, normalize)
    method.__class__ = Probabilistic
    features = extract(method, split, normalize, batch_size=10, posterior=True)
    assert plain.posterior is None
    loc, scale = features.posterior
    assert loc == pytest.approx(features.x, abs=1e-6)
    assert scale == pytest.approx(np.abs(features.x) + 1, abs=1e-6)
