"""A finished run, loaded: embeddings, posteriors and likelihoods of any images."""

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Tensor, nn

from vje_pyro.building import build, checked
from vje_pyro.data import DataSource, Normalize, Views, images_to_uint8, select_images
from vje_pyro.embedding import BATCH_SIZE, embed_views, map_batches, map_views
from vje_pyro.errors import CheckpointError, VJEError, explained, first_line
from vje_pyro.inference import EmbeddingModel
from vje_pyro.method import Method, ProbabilisticMethod, require
from vje_pyro.training.checkpoint import load_checkpoint, load_model_state, load_weights
from vje_pyro.training.run_dir import RunDir
from vje_pyro.training.run_json import read_run_json

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from vje_pyro.models import ManyViews


class Representation:
    """A trained method with its preprocessing; what :func:`load` returns.

    Images may be uint8 or floats in [0, 1], arrays ``(N, H, W)`` or ``(N, H, W, C)`` or tensors
    ``(N, C, H, W)``, or a single one (:func:`~vje_pyro.data.images_to_uint8`), of any size: they
    are brought to the run's size and normalised as in training.
    It is a scikit-learn transformer, so it fits in a pipeline before any classifier. It reads
    files at its first use, and raises its errors then.

    Args:
        run: Run directory.
        checkpoint: ``"last"``, ``"best"``, ``"epoch_0010"``, or a path.
        device: Where to compute.
        trust: Packages whose classes the run's configuration may name, besides vje_pyro and
            those of the environment variable ``VJE_TRUST``.
        data_root: Folder or URL of the run's data set, if it has moved.

    Raises:
        CheckpointError: If there is no such run or checkpoint, it is damaged, or its configuration
            is refused by :func:`vje_pyro.building.checked`. Weights are read from safetensors;
            nothing is ever unpickled.
        VJEError: If a part of the run cannot be made, or its data set has no root.
    """

    def __init__(
        self,
        run: str | Path,
        checkpoint: str | Path = "last",
        device: str = "cpu",
        trust: Sequence[str] = (),
        data_root: str | Path | None = None,
    ) -> None:
        self.run = run
        self.checkpoint = checkpoint
        self.device = device
        self.trust = trust
        self.data_root = data_root

    @cached_property
    def directory(self) -> RunDir:
        """The files of the run."""
        return RunDir(self.run)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @cached_property
    def info(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        return read_run_json(self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of the run."""
        replaced = () if self.data_root is None else ("data.root", "data.source.root")
        config: dict[str, Any] = checked(self.info["config"], self.trust, replaced)
        if self.data_root is not None:
            _use_data_root(config, str(self.data_root))
        return config

    @cached_property
    def method(self) -> Method:
        """The method with its weights, in evaluation mode and without gradients."""
        method = require(self._part("method", has="embed"), Method)
        load_weights(self.directory.checkpoint(self.checkpoint), method)
        method.to(memory_format=torch.channels_last).to(self.device).eval().requires_grad_(False)
        return method

    @cached_property
    def normalize(self) -> Normalize:
        """From uint8 images ``(N, C, H, W)`` to the method's input."""
        with explained("the run's data cannot be used"):
            return Normalize(self.source.mean, self.source.std).to(self.device)

    @cached_property
    def source(self) -> DataSource:
        """The data set that the run was trained on; its files are read when you take a split."""
        source: DataSource = self._part("data", has="split")
        return source

    @cached_property
    def views(self) -> Views:
        """The random views that the run was trained on."""
        source = self.source
        image = {"image_size": source.image_size, "mean": source.mean, "std": source.std}
        views: Views = self._part("views", has="from_crops", **image)
        return views

    def _part(self, name: str, has: str, **arguments: Any) -> Any:
        """What a group of the configuration makes, which must have a method ``has``."""
        try:
            part = build(self.config.get(name), **arguments)
        except Exception as error:  # of any component, with any arguments
            what = f"the run's {name} cannot be made: {first_line(error)}"
            raise CheckpointError(what) from error
        if not callable(getattr(part, has, None)):
            raise CheckpointError(
                f"the run's configuration is refused: {name} makes a {type(part).__name__}, which "
                f"has no {has}()."
            )
        return part

    def encoder(self) -> nn.Module:
        """A trainable copy of the encoder, with its own weights, in training mode.

        Its input is :attr:`normalize` of uint8 images, ``(N, C, S, S)``, its output
        embeddings ``(N, D)``; D is its ``num_features``.

        Example:
            >>> encoder = run.encoder()  # doctest: +SKIP
            >>> nn.Sequential(encoder, nn.Linear(encoder.num_features, 10))  # doctest: +SKIP
        """
        encoder: nn.Module = deepcopy(self.method.encoder)
        return encoder.train().requires_grad_()

    def embed(self, images: Any) -> Tensor:
        """Embeddings ``(N, D)``, float32, on the CPU."""
        return self._map(lambda batch: {"x": self.method.embed(batch)}, images)["x"]

    def posterior(
        self, images: Any, num_views: int | None = None, seed: int = 0
    ) -> TorchDistribution:
        """``q(z | image)``: a Pyro distribution of batch shape ``(N,)`` and event shape ``(D,)``.

        Args:
            images: As for the class.
            num_views: Random views of each image, as in training, that the posterior sees
                together. More views give a narrower posterior. None: the image itself.
            seed: Random seed of the views.

        Raises:
            VJEError: If the method has no posterior, or none of several views.
            ValueError: If ``num_views`` is below 1.
        """
        if num_views is None:
            method = require(self.method, ProbabilisticMethod)
            embeddings = self._map(lambda batch: {"s": method.encode(batch)}, images)["s"]
            with torch.no_grad():
                q: TorchDistribution = method.infer(embeddings.to(self.device)).posterior
            return q
        several = require(self.method, EmbeddingModel)

        def moments(views: Tensor) -> dict[str, Tensor]:
            q = several.posterior_of_views(views)
            return {"loc": q.mean, "scale": q.stddev}

        batches, make_views = self._uint8(images).split(BATCH_SIZE), self.views.to(self.device)
        found = map_views(several, moments, batches, make_views, num_views, seed)
        loc, scale = (found[name].to(self.device) for name in ("loc", "scale"))
        return Independent(Normal(loc, scale), 1)

    def uncertainty(self, images: Any) -> Tensor:
        """How uncertain the method is about each image, ``(N,)``; higher is less certain.

        Raises:
            VJEError: If the method has no posterior.
        """
        method = require(self.method, ProbabilisticMethod)
        return self._map(lambda batch: {"x": method.uncertainty(batch)}, images)["x"]

    def embed_views(self, images: Any, num_views: int, seed: int = 0) -> Tensor:
        """Embeddings of random views of each image, as in training: ``(num_views, N, D)``, CPU.

        Raises:
            ValueError: If ``num_views`` is below 1.
        """
        batches, make_views = self._uint8(images).split(BATCH_SIZE), self.views.to(self.device)
        return embed_views(self.method, self.method.embed, batches, make_views, num_views, seed)

    def embed_split(self, split: str, num_images: int, num_views: int, seed: int = 0) -> Tensor:
        """Embeddings of random views of random images of a split: ``(num_views, N, D)``, CPU.

        Args:
            split: ``"train"``, ``"test"`` …
            num_images: N; all images of the split, if there are fewer.
            num_views: Of each image.
            seed: Random seed of images and views.

        Raises:
            DataError: If the split cannot be read.
        """
        data = self.source.split(split)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:num_images])
        images, _ = select_images(data, chosen, self.source.channels, self.source.image_size)
        return self.embed_views(images, num_views, seed)

    def whitened(self, num_images: int = 10_000, num_views: int = 4, seed: int = 0) -> "Pipeline":
        """A transformer of images into embeddings in which the differences between views are white.

        It is fitted to random views of training images without labels, and works with the run of
        any method. Its last step takes embeddings
        (:class:`~vje_pyro.inference.WithinImageWhitening`).

        Args:
            num_images: Largest number of training images.
            num_views: Random views of each, as in training; at least two.
            seed: Random seed of images and views.

        Raises:
            DataError: If the run's data cannot be read.
            ValueError: If the images are too few for the covariance of their views.

        Example:
            >>> x = run.whitened().transform(images)  # doctest: +SKIP
        """
        from sklearn.frozen import FrozenEstimator
        from sklearn.pipeline import make_pipeline

        from vje_pyro.inference import WithinImageWhitening

        embeddings = self.embed_split("train", num_images, num_views, seed)
        return make_pipeline(self, FrozenEstimator(WithinImageWhitening().fit(embeddings)))

    @cached_property
    def joint_posterior_model(self) -> "ManyViews":
        """The Pyro model and guide behind :meth:`joint_posterior`.

        Raises:
            CheckpointError: If it has not been fitted, or its file cannot be read.
        """
        from vje_pyro.models import ManyViews

        path = self.directory.joint_posterior
        if not path.is_file():
            raise CheckpointError(
                f"{self.path} has no joint posterior: fit it with 'vje posterior {self.path}'."
            )
        state = load_checkpoint(path).model
        try:
            sizes = *state["components"].shape, len(state["weight_network.0.weight"])
            model = ManyViews(*sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} holds no joint posterior: {error}") from error
        load_model_state(model, state, path)
        return model.eval().requires_grad_(False)

    def joint_posterior(self, images: Any, num_views: int = 8, seed: int = 0) -> TorchDistribution:
        """``p(z | views)`` under the joint model, batch shape ``(N,)``, event shape ``(d,)``.

        z is in the canonical coordinates of the embeddings
        (:class:`~vje_pyro.models.ManyViews`). More views give a narrower posterior.

        Args:
            images: As for the class.
            num_views: Random views of each image, as in training, that the posterior sees.
            seed: Random seed of the views and the chains.

        Raises:
            CheckpointError: If the run has no joint posterior.
            ValueError: If ``num_views`` is below 1.
        """
        model = self.joint_posterior_model
        views = model.coordinates(self.embed_views(images, num_views, seed))
        with torch.no_grad():
            return model.posterior(views, seed=seed)

    def log_likelihood(
        self, source: Any, target: Any = None, num_samples: int = 16
    ) -> dict[str, Tensor]:
        """ELBO terms of target images under the posteriors of source images.

        Args:
            source: Images that the posterior is inferred from.
            target: The same number of images, whose embeddings are scored; the source if None.
            num_samples: Latent samples for the expectations.

        Returns:
            ``direction``, ``radius`` (expected log-likelihoods), ``kl`` and ``elbo``, each ``(N,)``
            in nats.

        Raises:
            VJEError: If the method has no likelihood.
            ValueError: If the numbers of images differ.
        """
        method = require(self.method, ProbabilisticMethod)
        first = self._uint8(source)
        second = first if target is None else self._uint8(target)
        if len(first) != len(second):
            raise ValueError(f"{len(first)} source images, but {len(second)} target images.")

        def terms(batch: Tensor) -> dict[str, Tensor]:
            one, two = (self.normalize(half) for half in batch.unbind(1))
            return method.log_likelihood(one, two, num_samples)

        return map_batches(method, terms, torch.stack([first, second], dim=1).split(BATCH_SIZE))

    def fit(self, X: Any = None, y: Any = None) -> "Representation":
        """Nothing to fit: the representation is trained already."""
        return self

    def transform(self, X: Any) -> Any:
        """Embeddings: a float32 array ``(N, D)``, or the table that :meth:`set_output` chose."""
        values = self.embed(X).numpy()
        if self._output == "pandas":
            import pandas

            columns = self.get_feature_names_out()
            return pandas.DataFrame(values, index=getattr(X, "index", None), columns=columns)
        if self._output == "polars":
            import polars

            return polars.DataFrame(values, schema=self.get_feature_names_out().tolist())
        return values

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """The same as :meth:`transform`."""
        return self.transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features of an embedding, ``representation0`` and so on: ``(D,)``, text."""
        return np.array([f"representation{i}" for i in range(self.method.num_features)], object)

    def set_output(self, *, transform: str | None = None) -> "Representation":
        """What :meth:`transform` gives: ``"default"`` (an array), ``"pandas"`` or ``"polars"``.

        None changes nothing. Without this call scikit-learn's ``transform_output`` decides.

        Raises:
            ValueError: There is no such output.
        """
        if transform not in (None, *_OUTPUTS):
            raise ValueError(f"transform must be one of {_OUTPUTS}, got {transform!r}.")
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # clone() copies it
        return self

    @property
    def _output(self) -> str:
        own = getattr(self, "_sklearn_output_config", None)
        if own is not None:
            return own["transform"]
        sklearn = sys.modules.get("sklearn")
        return sklearn.get_config()["transform_output"] if sklearn else "default"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor; nothing is loaded."""
        return {name: getattr(self, name) for name in _PARAMS}

    def set_params(self, **params: Any) -> "Representation":
        """Change arguments; what depends on them is loaded again at its next use.

        Raises:
            ValueError: There is no such argument.
        """
        for name, value in params.items():
            if name not in _PARAMS:
                raise ValueError(f"no parameter {name!r}: there are {', '.join(_PARAMS)}.")
            setattr(self, name, value)
        for name in params and _LOADED:
            vars(self).pop(name, None)
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"Representation({given})"

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags

        required = TargetTags(required=False)
        return Tags(estimator_type=None, target_tags=required, transformer_tags=TransformerTags())

    def _uint8(self, images: Any) -> Tensor:
        return images_to_uint8(
            images, self.source.channels, self.source.image_size, self.source.value_range
        )

    def _map(
        self, function: Callable[[Tensor], dict[str, Tensor]], images: Any
    ) -> dict[str, Tensor]:
        batches = self._uint8(images).split(BATCH_SIZE)
        return map_batches(self.method, lambda batch: function(self.normalize(batch)), batches)


_PARAMS = ("run", "checkpoint", "device", "trust", "data_root")
_OUTPUTS = ("default", "pandas", "polars")
_LOADED = [n for n, value in vars(Representation).items() if isinstance(value, cached_property)]
"""What is made of the arguments when it is first used."""


def _use_data_root(config: dict[str, Any], root: str) -> None:
    data = config.get("data")
    if isinstance(data, dict) and isinstance(data.get("source"), dict):
        data = data["source"]  # of one class, where the run was trained on that
    if not isinstance(data, dict) or "root" not in data:
        raise VJEError(f"the run's data are not read from a folder: {data} has no root.")
    data["root"] = root


def load(
    run: str | Path,
    checkpoint: str | Path = "last",
    device: str = "cpu",
    trust: Sequence[str] = (),
    data_root: str | Path | None = None,
) -> Representation:
    """Load a trained run, at once; arguments and errors are those of :class:`Representation`."""
    representation = Representation(run, checkpoint, device, trust, data_root)
    _ = representation.method, representation.normalize
    return representation
