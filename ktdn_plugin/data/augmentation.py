"""Random crops, flips, quarter turns, scale and colour, alike for hazy and clear."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.scenes.images import Window


@dataclass(frozen=True)
class ColorJitter:
    """How far colours are changed, at most; each 0 for not at all.

    Attributes:
        brightness: Values are multiplied by a factor from 1 - this to 1 + this.
        contrast: Distances from middle grey are; not from an image's own mean, as torchvision
            does it, which would change hazy and clear differently.
        saturation: Distances from each pixel's own grey are.
        hue: Hues are turned by up to this share of a circle, up to 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values."""
        for key, value in vars(self).items():
            limit = 0.5 if key == "hue" else 1.0
            if not isinstance(value, (int, float)) or not 0 <= value <= limit:
                raise KTDNError(f"color_jitter.{key}: {value!r} must be a number from 0 to {limit}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ColorJitter:
        """Makes one of an options section.

        Raises:
            KTDNError: If a key is unknown or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise KTDNError(f"color_jitter.{key}: unknown key{did_you_mean(key, known)}")
        return cls(**values)


class AugmentationDraw(NamedTuple):
    """What was drawn for one sample.

    Attributes:
        window: The part of the image that is taken.
        hflip: Whether left and right are exchanged.
        vflip: Whether top and bottom are, then.
        transpose: Whether rows and columns are, then: with the flips, every quarter turn.
        colors: Factors of brightness, contrast and saturation, and the turn of hues.
    """

    window: Window
    hflip: bool
    vflip: bool
    transpose: bool
    colors: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image at random, all of it from Python's generator ``random``.

    Attributes:
        size: Height and width of what comes out, in pixels.
        hflip: Whether half of the images are mirrored.
        rot: Whether images are flipped upside down and transposed, half of them each (BasicSR's
            ``use_rot``); with ``hflip`` these are all eight ways to lay a square.
        scale: Smallest and largest factor by which an image's content is enlarged, on a
            logarithmic scale; (1, 1) leaves it as it is.
        jitter: How colours are changed.
    """

    size: int
    hflip: bool = True
    rot: bool = True
    scale: tuple[float, float] = (1.0, 1.0)
    jitter: ColorJitter | None = None

    def __post_init__(self) -> None:
        """Checks the scale."""
        scale: Any = self.scale
        fits = isinstance(scale, Sequence) and len(scale) == 2
        if not fits or not all(isinstance(factor, (int, float)) for factor in scale):
            raise KTDNError(f"use_scale: {scale!r} must be two numbers: [smallest, largest]")
        if not 0.1 <= scale[0] <= scale[1] <= 10:
            raise KTDNError(
                f"use_scale: {list(scale)} must be from 0.1 to 10, smallest factor first"
            )

    def draw(self, height: int, width: int) -> AugmentationDraw:
        """Draws for an image of this size.

        Raises:
            KTDNError: If it is smaller than the crop.
        """
        if min(height, width) < self.size:
            raise KTDNError(
                f"{width} x {height} pixels, smaller than the crop, gt_size: {self.size}; lower "
                "it or remove the image"
            )
        side = self.size
        if self.scale != (1.0, 1.0):
            low, high = (np.log(factor) for factor in self.scale)
            side = round(self.size / float(np.exp(random.uniform(low, high))))
            side = max(1, min(side, height, width))
        top, left = random.randint(0, height - side), random.randint(0, width - side)
        turns = [asked and random.random() < 0.5 for asked in (self.hflip, self.rot, self.rot)]
        return AugmentationDraw(
            (top, left, side, side), turns[0], turns[1], turns[2], self._draw_colors()
        )

    def _draw_colors(self) -> tuple[float, float, float, float] | None:
        jitter = self.jitter
        if jitter is None:
            return None
        brightness, contrast, saturation = (
            random.uniform(1 - most, 1 + most)
            for most in (jitter.brightness, jitter.contrast, jitter.saturation)
        )
        return brightness, contrast, saturation, random.uniform(-jitter.hue, jitter.hue)

    def resize(self, image: NDArray[Any]) -> NDArray[Any]:
        """Scales what was cut out of an image, (h, w) or (h, w, 3) of any dtype."""
        if image.shape[0] != self.size:
            # Averaging when shrinking, so that nothing is aliased.
            how = cv2.INTER_AREA if image.shape[0] > self.size else cv2.INTER_CUBIC
            image = cv2.resize(np.ascontiguousarray(image), (self.size, self.size), None, 0, 0, how)
            if image.dtype != np.uint8:
                image = image.clip(0, 1)  # cubic splines overshoot
        return image

    def place(self, image: NDArray[Any], draw: AugmentationDraw) -> NDArray[Any]:
        """Scales, flips and turns what was cut out of an image, (h, w, 3) of any dtype."""
        image = self.resize(image)
        # OpenCV's copies cost less than to read through numpy's views in reversed order later on.
        if draw.hflip or draw.vflip:
            image = cv2.flip(image, -1 if draw.hflip and draw.vflip else int(draw.hflip))
        return cv2.transpose(image) if draw.transpose else image


def to_tensor(image: NDArray[Any]) -> Tensor:
    """Makes a network's input of an image.

    Args:
        image: (h, w, 3), uint8, or floating point in [0, 1].

    Returns:
        (3, h, w) float32 in [0, 1].
    """
    if image.dtype != np.uint8:
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
    # Channel by channel, which is quicker than to stride over them, and to the bit what BasicSR
    # computes.
    values = np.empty((3, *image.shape[:2]), np.float32)
    for channel, plane in zip(values, cv2.split(image), strict=True):
        np.divide(plane, np.float32(255), out=channel)
    return torch.from_numpy(values)


def change_colors(images: Sequence[Tensor], draw: AugmentationDraw) -> list[Tensor]:
    """Changes the colours of images, (3, h, w) in [0, 1], each by the same function of a pixel."""
    if draw.colors is None:
        return list(images)
    # Loaded where it is used: it takes seconds.
    from torchvision.transforms.v2 import functional

    brightness, contrast, saturation, hue = draw.colors
    changed = []
    for image in images:
        image = (image * brightness).clamp(0, 1)
        image = ((image - 0.5) * contrast + 0.5).clamp(0, 1)
        image = functional.adjust_saturation(image, saturation)
        changed.append(functional.adjust_hue(image, hue))
    return changed
