import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from sklearn.base import clone

from vje_pyro.errors import NonFiniteError
from vje_pyro.evaluation import knn_predict
from vje_pyro.inference import CanonicalCoordinates, WithinImageWhitening

RHO = torch.tensor([0.9, 0.6, 0.3, 0.1], dtype=torch.double)


@pytest.fixture
def views():
    """Embeddings of 4 views of 4,000 images, whose canonical features are mixed."""
    g = torch.Generator().manual_seed(0)
    image = torch.randn(1, 4000, 4, generator=g, dtype=torch.double)
    noise = torch.randn(4, 4000, 4, generator=g, dtype=torch.double)
    mixing = torch.randn(4, 6, generator=g, dtype=torch.double)
    return (RHO.sqrt() * image + (1 - RHO).sqrt() * noise) @ mixing + 3.0


def test_the_correlations_are_found_and_directions_without_variance_left_out(views):
    coordinates = CanonicalCoordinates().fit(views)
    assert coordinates.components_.shape == (6, 4)
    torch.testing.assert_close(coordinates.correlation_, RHO, atol=0.03, rtol=0)


def test_coordinates_are_white_and_view_differences_diagonal(views):
    coordinates = CanonicalCoordinates().fit(views)
    x = coordinates.transform(views).double()
    flat = x.flatten(0, 1)
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(4).double(), atol=1e-5, rtol=0)
    differences = (x - x.mean(0)).flatten(0, 1)
    within = differences.T @ differences / (3 * 4000)
    expected = (1 - coordinates.correlation_).diag()
    torch.testing.assert_close(within, expected, atol=1e-5, rtol=0)


def test_they_solve_the_generalised_eigenproblem_of_scipy(views):
    views = views[..., :4]
    centred = (views - views.mean((0, 1))).flatten(0, 1).numpy()
    differences = (views - views.mean(0)).flatten(0, 1).numpy()
    noise, _ = eigh(differences.T @ differences / 12_000, centred.T @ centred / len(centred))
    np.testing.assert_allclose(CanonicalCoordinates().fit(views).correlation_, 1 - noise, rtol=1e-6)


def test_an_affine_map_of_the_embeddings_changes_nothing(views):
    g = torch.Generator().manual_seed(1)
    mapped = views @ torch.randn(6, 6, generator=g, dtype=torch.double) - 2.0
    one = CanonicalCoordinates(2).fit(views)
    other = CanonicalCoordinates(2).fit(mapped)
    assert one.transform(views).shape == (4, 4000, 2)
    similar = torch.cosine_similarity(
        one.transform(views).flatten(0, 1), other.transform(mapped).flatten(0, 1), dim=0
    )
    torch.testing.assert_close(similar.abs(), torch.ones(2), atol=1e-4, rtol=0)


def test_it_is_a_transformer_of_scikit_learn():
    assert clone(CanonicalCoordinates(3)).num_features == 3


def known_covariances(num_images):
    """Embeddings of 4 views with covariance within, ``L L'``, and between images; with L."""
    g = torch.Generator().manual_seed(2)
    within = torch.randn(3, 3, generator=g, dtype=torch.double)
    between = torch.randn(3, 3, generator=g, dtype=torch.double)
    image = torch.randn(1, num_images, 3, generator=g, dtype=torch.double)
    noise = torch.randn(4, num_images, 3, generator=g, dtype=torch.double)
    return image @ between.T + noise @ within.T + 1.0, within, between


def test_whitening_is_the_map_that_the_covariances_say():
    r"""With B the map and W within: B'WB = I; with T total, B'TB is diagonal: 1/(1 - rho)."""
    views, within, between = known_covariances(200_000)
    whitening = WithinImageWhitening().fit(views)
    found, w = whitening.components_, within @ within.T
    torch.testing.assert_close(found.T @ w @ found, torch.eye(3).double(), atol=0.02, rtol=0)
    noise, axes = eigh(w, w + between @ between.T)  # axes' total covariance is I
    expected = torch.from_numpy(axes / noise**0.5)
    signs = (found * expected).sum(0).sign()
    torch.testing.assert_close(found, expected * signs, atol=0.02, rtol=0.02)
    torch.testing.assert_close(whitening.mean_, torch.ones(3).double(), atol=0.02, rtol=0)


def test_neighbours_after_whitening_do_not_depend_on_a_map_of_the_features():
    views, *_ = known_covariances(300)
    labels = (views.mean((0, 2)) > 1).long()
    mixing = torch.tensor([[5.0, 1.0, 0.0], [0.0, 0.1, 0.3], [1.0, 0.0, 1.0]]).double()
    predicted, raw = [], []
    for x in (views, views @ mixing + 2.0):
        bank = WithinImageWhitening().fit(x[:2]).transform(x[2:])
        predicted.append(knn_predict(bank[0], labels, bank[1], 5))
        raw.append(knn_predict(x[2].float(), labels, x[3].float(), 5))
    assert torch.equal(*predicted)
    assert not torch.equal(*raw)


def test_whitening_needs_more_images_than_directions():
    views = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"equal in . of 8 directions .* fit on more images"):
        WithinImageWhitening().fit(views)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.randn(1, 5, 3), "at least two views"),
        (torch.randn(2, 1, 3), "two images"),
        (torch.randn(5, 3), "got shape"),
        (torch.ones(2, 5, 3), "all views of all images are equal"),
    ],
)
def test_what_has_no_canonical_coordinates_is_refused(embeddings, message):
    with pytest.raises(ValueError, match=message):
        CanonicalCoordinates().fit(embeddings)


def test_embeddings_that_are_not_finite_are_named():
    embeddings = torch.randn(2, 5, 3)
    embeddings[1, 2, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="view 1 of image 2"):
        CanonicalCoordinates().fit(embeddings)


def test_a_number_of_features_below_one_is_refused():
    with pytest.raises(ValueError, match="num_features must be at least 1"):
        CanonicalCoordinates(0)
