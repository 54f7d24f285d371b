"""knn-v1: weighted k-nearest-neighbour classification by cosine similarity.

The classifier of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (CVPR 2018): a test image takes the class with the largest sum of weights
exp(cosine / 0.1) among its k nearest training images.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

TEMPERATURE = 0.1

_SIMILARITIES = 1 << 25
"""How many similarities are held at once (128 MiB as float32); sets the chunk of test images."""


def default_k(num_train: int) -> int:
    """Neighbours of knn-v1: 200, or 20 for a bank of fewer than 20,000 images; at most all."""
    return 200 if num_train >= 20_000 else min(20, num_train)


@torch.no_grad()
def nearest(queries: Tensor, bank: Tensor, k: int, same: bool = False) -> tuple[Tensor, Tensor]:
    """The k images of a bank with the greatest cosine similarity to each query.

    Args:
        queries: Features, float, ``(M, D)``.
        bank: Features, float, ``(N, D)``.
        k: Neighbours, 1 to N (N − 1 where ``same``).
        same: The queries are the bank: an image is no neighbour of itself.

    Returns:
        Similarities and places in the bank (int64), each ``(M, k)``, nearest first.

    Raises:
        ValueError: If ``k`` does not fit.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> nearest(x, x, 1, same=True)[1]
        tensor([[1],
                [0],
                [1]])
    """
    if not 1 <= k <= len(bank) - same:
        raise ValueError(f"k must be between 1 and {len(bank) - same}, got {k}.")
    units = normalize(bank.float(), dim=1)
    found, start = [], 0
    for part in queries.split(max(1, _SIMILARITIES // len(bank))):
        similarity = normalize(part.float(), dim=1) @ units.T
        if same:
            similarity.diagonal(start).fill_(-torch.inf)
        start += len(part)
        found.append(similarity.topk(k, dim=1))
    values, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, places


@torch.no_grad()
def knn_predict(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    k: int,
    temperature: float = TEMPERATURE,
    num_classes: int | None = None,
) -> Tensor:
    """Predicted classes, int64, shape ``(M,)``; of classes that tie the lowest is taken.

    Runs in float32 on the device of its arguments; nothing is random. A row of zeros has similarity
    0 to everything. If images tie for the k-th place, ``torch.topk`` decides which of them votes.

    Args:
        train_x: The bank, float, shape ``(N, D)``; need not be normalised.
        train_y: Its classes, int64, shape ``(N,)``, each in ``0 … num_classes - 1``.
        test_x: The queries, float, shape ``(M, D)``.
        k: How many neighbours vote, 1 to N.
        temperature: Divides the similarity in the weight; positive.
        num_classes: How many classes; the largest label plus one when None.

    Raises:
        ValueError: If shapes, ``k``, ``temperature``, ``num_classes`` or the labels do not fit.
    """
    classes = _check(train_x, train_y, test_x, k, temperature, num_classes)
    similarity, index = nearest(test_x, train_x, k)
    # Relative to the nearest neighbour: the same vote, and no overflow at low temperature.
    weight = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = weight.new_zeros(len(test_x), classes).scatter_add_(1, train_y[index], weight)
    return votes.argmax(dim=1)


def knn_accuracy(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    k: int | None = None,
    temperature: float = TEMPERATURE,
) -> float:
    """Fraction of test images that :func:`knn_predict` gets right; knn-v1 by default.

    Arguments are those of :func:`knn_predict`; ``test_y`` are the true classes, int64, ``(M,)``, M
    at least 1, and ``k`` is :func:`default_k` of the bank when None.

    Raises:
        ValueError: As :func:`knn_predict`, or if ``test_y`` does not fit ``test_x``.
    """
    if len(test_x) == 0 or test_y.shape != (len(test_x),):
        raise ValueError(
            f"test_y must hold a class for each of {len(test_x)} (at least 1) test images, "
            f"got shape {tuple(test_y.shape)}"
        )
    k = default_k(len(train_x)) if k is None else k
    predicted = knn_predict(train_x, train_y, test_x, k, temperature)
    return (predicted == test_y).float().mean().item()


def _check(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    k: int,
    temperature: float,
    num_classes: int | None,
) -> int:
    """The number of classes, once everything fits."""
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1] != test_x.shape[1]:
        raise ValueError(
            "train_x and test_x must be matrices with the same number of columns, got shapes "
            f"{tuple(train_x.shape)} and {tuple(test_x.shape)}"
        )
    if train_y.shape != (len(train_x),):
        raise ValueError(
            f"train_y must hold a class for each of {len(train_x)} bank images, got shape "
            f"{tuple(train_y.shape)}"
        )
    if not 1 <= k <= len(train_x):
        raise ValueError(
            f"k must be between 1 and the size of the bank, got k = {k} for {len(train_x)} images; "
            "use a smaller k or a larger bank"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    low, high = map(int, torch.stack(train_y.aminmax()).tolist())
    classes = high + 1 if num_classes is None else num_classes
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels must be in 0 … {classes - 1}, found {low} … {high} (-1 means unlabelled)"
        )
    return classes
