"""Random views of a whole batch of images, each image with its own draw, on the images' device."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from vje_pyro.checking import check_values
from vje_pyro.data.colour import LUMA, chroma_basis, saturation_hue_matrix
from vje_pyro.data.crops import apply_separable, blur_matrix, resample_matrix, sample_boxes
from vje_pyro.ranges import ImageSize, NonNegativeFloat, PositiveFloat, PositiveInt, Probability

_GEOMETRY = ("area", "ratio", "left", "top", "flip", "blur", "sigma")
_COLOUR = ("jitter", "brightness", "contrast", "saturation", "hue", "grayscale", "solarize")
_DRAWS = (*_GEOMETRY, *_COLOUR)


def random_views(make_views: Callable[[Tensor], Tensor], images: Tensor, num_views: int) -> Tensor:
    """Any number of random views of uint8 images ``(B, C, H, W)``: ``(num_views, B, C, H, W)``.

    Args:
        make_views: From images to some views, ``(V, B, C, H, W)``, such as :class:`Views`.
        images: uint8, ``(B, C, H, W)``.
        num_views: How many views of each image, or ValueError if below 1.
    """
    if num_views < 1:
        raise ValueError(f"num_views must be at least 1, got {num_views}.")
    made = make_views(images)
    while len(made) < num_views:
        made = torch.cat([made, make_views(images)])
    return made[:num_views]


class _Recipe(NamedTuple):
    """What happens to each image; leading dimensions (V, B), or (B,) for one view."""

    left: Tensor  # of the box in pixels; its right edge where the image is mirrored
    width: Tensor  # negative where the image is mirrored
    top: Tensor
    height: Tensor
    mirrored: Tensor
    matrix: Tensor  # (…, C, C) of the channels
    pull: Tensor  # how much of the mean luma contrast adds
    sigma: Tensor  # of the blur in pixels; 0 for none
    solarized: Tensor


_Geometry = Callable[[Tensor, _Recipe, int], Tensor]


class Normalize(nn.Module):
    """uint8 images to normalised floats, without augmentation.

    Args:
        mean: Channel means of images in [0, 1].
        std: Channel standard deviations.

    Raises:
        ValueError: If the two differ in length or a deviation is not positive.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(
                f"mean and positive std of each channel wanted, got {self.mean}, {self.std}"
            )
        scale = torch.tensor([1 / (255 * s) for s in self.std]).view(-1, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)])
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``(images / 255 - mean) / std``: values in 0…255, ``(B, C, H, W)``, to float32."""
        _check_shape(images, len(self.mean))
        if self.scale.device != images.device:
            self.to(images.device)
        return torch.addcmul(self.shift, images.float(), self.scale)


class Views(nn.Module):
    """V random views of each image: crop, flip, blur, colours, normalisation, solarisation.

    Every image of every view has its own parameters, from the global random generator of the
    images' device in one draw, so that a setting changes only its own effect. Nothing is read back
    from the device. Choices of this project, which make a batch a few small matrix products:

    - crop, flip and blur are one separable linear map (``vje_pyro.data.crops``), before the
      colours;
    - jitter is one affine map of the channels (``vje_pyro.data.colour``) in the fixed order
      brightness, contrast (about the mean luma of the crop), saturation, hue; grayscale is
      saturation 0; values are clipped to [0, 1] once, at the end;
    - with a number of channels other than 3, saturation, hue and grayscale do nothing.

    Args:
        image_size: Height and width of a view in pixels.
        mean: Channel means of the data in [0, 1].
        std: Channel standard deviations of the data.
        num_views: Views V of each image.
        crop_scale: Least and greatest area of a crop, as a fraction of the image.
        crop_ratio: Least and greatest aspect ratio (width over height) of a crop.
        flip: Probability of a mirror image.
        jitter: Probability that the four colour changes are applied.
        brightness: Factors are uniform on ``[max(0, 1 - brightness), 1 + brightness]``.
        contrast: The same for contrast.
        saturation: The same for saturation.
        hue: Turn of the hue, uniform on ``[-hue, hue]``, in full turns (at most 0.5).
        grayscale: Probability of a grey image.
        blur: Probability of a Gaussian blur, one number or one for each view.
        blur_sigma: Least and greatest standard deviation of the blur, in pixels of the view.
        solarize: Probability of inverting all values above one half, as ``blur``.

    Raises:
        ValueError: If a knob is out of its range; the message names it.
    """

    chroma: Tensor
    luma: Tensor

    def __init__(
        self,
        image_size: ImageSize,
        mean: Sequence[float],
        std: Sequence[float],
        num_views: Annotated[PositiveInt, Le(64)] = 2,
        crop_scale: Sequence[PositiveFloat] = (0.2, 1.0),
        crop_ratio: Sequence[PositiveFloat] = (3 / 4, 4 / 3),
        flip: Probability = 0.5,
        jitter: Probability = 0.8,
        brightness: NonNegativeFloat = 0.4,
        contrast: NonNegativeFloat = 0.4,
        saturation: NonNegativeFloat = 0.4,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.1,
        grayscale: Probability = 0.2,
        blur: Probability | Sequence[Probability] = 0.0,
        blur_sigma: Sequence[PositiveFloat] = (0.1, 2.0),
        solarize: Probability | Sequence[Probability] = 0.0,
    ) -> None:
        super().__init__()
        check_values(Views.__init__, locals())
        self.normalize = Normalize(mean, std)
        self.channels = len(self.normalize.mean)
        self.image_size, self.num_views = image_size, num_views
        self.crop_scale = _interval("crop_scale", crop_scale, high=1.0)
        self.crop_ratio = _interval("crop_ratio", crop_ratio)
        self.flip, self.jitter, self.grayscale = flip, jitter, grayscale
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue = saturation, hue
        self.blur = _per_view("blur", blur, num_views)
        self.blur_sigma = _interval("blur_sigma", blur_sigma)
        self.solarize = _per_view("solarize", solarize, num_views)
        luma = LUMA if self.channels == 3 else (1 / self.channels,) * self.channels
        self.register_buffer("luma", torch.tensor(luma), persistent=False)
        self.register_buffer("chroma", chroma_basis(), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Views ``(V, B, C, S, S)``, float32, normalised, of uint8 images ``(B, C, H, W)``."""
        _check_shape(images, self.channels)
        return self._make([images] * self.num_views, self._crop)

    @torch.no_grad()
    def from_crops(self, crops: Tensor) -> Tensor:
        """Normalised views ``(V, B, C, S, S)`` of given crops, uint8 ``(B, V, C, S, S)``."""
        wanted = (self.num_views, self.channels, self.image_size, self.image_size)
        if crops.dim() != 5 or crops.shape[1:] != wanted:
            raise ValueError(f"crops of shape (B, *{wanted}) wanted, got {tuple(crops.shape)}")
        return self._make(crops.unbind(1), self._flip_and_blur)

    def _make(self, sources: Sequence[Tensor], geometry: _Geometry) -> Tensor:
        """One view of each of the batches ``sources``, each ``(B, C, H, W)``."""
        batch, _, height, width = sources[0].shape
        device = sources[0].device
        if self.luma.device != device:
            self.to(device)
        recipe = self._draw(batch, height, width, device)
        views = []
        # matrix products of pixels in half precision would lose grey levels
        with torch.autocast(device.type, enabled=False):
            for view, source in enumerate(sources):
                here = _Recipe(*(value[view] for value in recipe))
                views.append(self._finish(geometry(source.float(), here, view), here, view))
        return torch.stack(views)

    def _draw(self, batch: int, height: int, width: int, device: torch.device) -> _Recipe:
        """The random parameters of all views of a batch of images of one size."""
        uniforms = torch.rand(len(_DRAWS), self.num_views, batch, device=device)
        draws = dict(zip(_DRAWS, uniforms, strict=True))
        jittered = draws["jitter"] < self.jitter
        brightness = _factor(draws["brightness"], self.brightness, jittered)
        contrast = _factor(draws["contrast"], self.contrast, jittered)
        low, high = self.blur_sigma
        blurred = torch.stack([d < p for d, p in zip(draws["blur"], self.blur, strict=True)])
        solarized = zip(draws["solarize"], self.solarize, strict=True)
        mirrored = draws["flip"] < self.flip
        place = [draws[name] for name in ("area", "ratio", "left", "top")]
        left, top, box_width, box_height = sample_boxes(
            place, height, width, self.crop_scale, self.crop_ratio
        )
        return _Recipe(
            left=torch.where(mirrored, left + box_width, left),
            width=torch.where(mirrored, -box_width, box_width),
            top=top,
            height=box_height,
            mirrored=mirrored,
            matrix=(brightness * contrast)[..., None, None] * self._chroma_change(draws, jittered),
            pull=(1 - contrast) * brightness,
            sigma=torch.where(blurred, low + (high - low) * draws["sigma"], 0.0),
            solarized=torch.stack([d < p for d, p in solarized]),
        )

    def _chroma_change(self, draws: dict[str, Tensor], jittered: Tensor) -> Tensor:
        if self.channels != 3:
            return torch.eye(self.channels, device=jittered.device)
        saturation = _factor(draws["saturation"], self.saturation, jittered)
        saturation = torch.where(draws["grayscale"] < self.grayscale, 0.0, saturation)
        turn = (2 * draws["hue"] - 1) * jittered * (2 * math.pi * self.hue)
        return saturation_hue_matrix(saturation, turn, self.chroma)

    def _crop(self, pixels: Tensor, recipe: _Recipe, view: int) -> Tensor:
        height, width = pixels.shape[-2:]
        columns = resample_matrix(recipe.left, recipe.width, width, self.image_size)
        rows = resample_matrix(recipe.top, recipe.height, height, self.image_size)
        if self.blur[view]:
            blur = blur_matrix(recipe.sigma, self.image_size)
            rows, columns = torch.bmm(blur, rows), torch.bmm(blur, columns)
        return apply_separable(pixels, rows, columns)

    def _flip_and_blur(self, pixels: Tensor, recipe: _Recipe, view: int) -> Tensor:
        pixels = torch.where(recipe.mirrored[:, None, None, None], pixels.flip(-1), pixels)
        if self.blur[view]:
            blur = blur_matrix(recipe.sigma, self.image_size)
            pixels = apply_separable(pixels, blur, blur)
        return pixels

    def _finish(self, pixels: Tensor, recipe: _Recipe, view: int) -> Tensor:
        """Colours, normalisation and solarisation of floats in 0…255, ``(B, C, S, S)``."""
        pixels = self._colours(pixels, recipe) if self._has_colours() else self.normalize(pixels)
        if self.solarize[view]:
            self._solarize(pixels, recipe.solarized)
        return pixels

    def _has_colours(self) -> bool:
        chroma = self.channels == 3 and (self.saturation or self.hue)
        jitter = self.jitter and (self.brightness or self.contrast or chroma)
        return bool(jitter or (self.channels == 3 and self.grayscale))

    def _colours(self, pixels: Tensor, recipe: _Recipe) -> Tensor:
        # contrast draws values towards the mean luma of the brightened crop; grey stays grey under
        # the chroma change, so the offset is the same in all channels
        flat = pixels.flatten(2)
        offset = (recipe.pull * (flat.mean(-1) @ self.luma))[:, None, None]
        # the normalisation is one more affine map: compose it instead of passing over the pixels
        scale, shift = self.normalize.scale[..., 0], self.normalize.shift[..., 0]
        flat = torch.baddbmm(offset * scale + shift, recipe.matrix * scale, flat)
        for channel, (low, high) in enumerate(self._range()):
            flat[:, channel].clamp_(low, high)
        return flat.view_as(pixels)

    def _solarize(self, pixels: Tensor, chosen: Tensor) -> None:
        """In place: x to min(x, 1 - x), which in normalised units is min(y, low + high - y)."""
        for channel, (low, high) in enumerate(self._range()):
            values = pixels[:, channel]
            ceiling = torch.where(chosen, low + high, math.inf)[:, None, None]
            torch.minimum(values, ceiling - values, out=values)

    def _range(self) -> list[tuple[float, float]]:
        """Least and greatest normalised value of each channel."""
        stats = zip(self.normalize.mean, self.normalize.std, strict=True)
        return [(-mean / std, (1 - mean) / std) for mean, std in stats]


def _check_shape(images: Tensor, channels: int) -> None:
    if images.dim() != 4 or images.shape[1] != channels:
        raise ValueError(f"images of shape (B, {channels}, H, W) wanted, got {tuple(images.shape)}")


def _factor(uniforms: Tensor, strength: float, jittered: Tensor) -> Tensor:
    """Uniform on ``[max(0, 1 - strength), 1 + strength]`` where jittered, else 1."""
    low = max(0.0, 1 - strength)
    return torch.where(jittered, low + (1 + strength - low) * uniforms, 1.0)


def _interval(name: str, value: Sequence[float], high: float = math.inf) -> tuple[float, float]:
    pair = tuple(float(v) for v in value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= high or math.isinf(pair[1]):
        raise ValueError(
            f"{name} must be two numbers in (0, {high:g}], in increasing order, got {value}"
        )
    return pair[0], pair[1]


def _per_view(name: str, value: float | Sequence[float], num_views: int) -> tuple[float, ...]:
    values = (value,) * num_views if isinstance(value, int | float) else tuple(value)
    if len(values) != num_views:
        raise ValueError(f"{name} needs one number or {num_views}, one for each view, got {value}")
    return tuple(map(float, values))
