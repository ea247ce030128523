"""Datasets for training and measuring: pairs, clear images alone, clear images with synthetic haze.

Random numbers come from Python's generator ``random``; that they follow from a seed is for
:class:`ktdn_plugin.data.order.SeededDataset` to see to.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ktdn_plugin.data.augmentation import Augmentation, AugmentationDraw, change_colors, to_tensor
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.degradation import Degradation, degrade
from ktdn_plugin.haze.depth import DepthMaps
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.scenes.images import Images, Window, cut

Sample = dict[str, Any]
"""``hazy`` and ``clear``, float32 RGB tensors (3, h, w) in [0, 1], and ``name``."""


class ClearDataset(Dataset[Sample]):
    """Clear images alone, which are input and target at once: what the teacher learns from.

    Args:
        clear: The images.
        augmentation: What is done to each at random; without it, whole images come.
    """

    def __init__(self, clear: Images, augmentation: Augmentation | None = None) -> None:
        self.clear = clear
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.clear)

    def __getitem__(self, index: int) -> Sample:
        """Returns ``clear`` and ``hazy``, the same tensor, and ``name``.

        Raises:
            KTDNError: If the image cannot be read, or is smaller than the crop.
        """
        (clear,) = self._read(index, self.clear.read(index))
        return {"hazy": clear, "clear": clear, "name": self.clear.name(index)}

    def _read(self, index: int, *images: NDArray[np.uint8]) -> list[Tensor]:
        """Takes the same part of each image."""
        if self.augmentation is None:
            return [to_tensor(image) for image in images]
        draw = self._draw(index, images[-1])
        return self._finish([cut(image, draw.window) for image in images], draw)

    def _draw(self, index: int, image: NDArray[np.uint8]) -> AugmentationDraw:
        assert self.augmentation is not None
        try:
            return self.augmentation.draw(*image.shape[:2])
        except KTDNError as error:
            raise KTDNError(f"{self.clear.describe(index)}: {error}") from error

    def _finish(self, parts: list[NDArray[Any]], draw: AugmentationDraw) -> list[Tensor]:
        assert self.augmentation is not None
        placed = [to_tensor(self.augmentation.place(part, draw)) for part in parts]
        return change_colors(placed, draw)


class PairedDataset(ClearDataset):
    """Hazy images, each with the clear image of its scene: what the student learns from.

    Args:
        hazy: The hazy images.
        clear: The clear image of each, in the same order.
        augmentation: As for :class:`ClearDataset`, the same for both of a pair.

    Raises:
        ValueError: If their numbers differ.
    """

    def __init__(
        self, hazy: Images, clear: Images, augmentation: Augmentation | None = None
    ) -> None:
        super().__init__(clear, augmentation)
        if len(hazy) != len(clear):
            raise ValueError(f"{len(hazy)} hazy images for {len(clear)} clear ones")
        self.hazy = hazy

    def __getitem__(self, index: int) -> Sample:
        """Returns ``hazy``, ``clear``, ``name`` (the hazy one's) and ``clear_name``.

        Raises:
            KTDNError: If an image cannot be read or is smaller than the crop, or the two differ
                in size.
        """
        images = self.hazy.read(index), self.clear.read(index)
        if images[0].shape != images[1].shape:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in images)
            raise KTDNError(
                f"{self.hazy.describe(index)} and {self.clear.describe(index)} differ in size "
                f"({sizes})"
            )
        hazy, clear = self._read(index, *images)
        names = {"name": self.hazy.name(index), "clear_name": self.clear.name(index)}
        return {"hazy": hazy, "clear": clear, **names}


class SyntheticHazeDataset(ClearDataset):
    """Clear images over which haze is laid when they are asked for, by the scattering model.

    In training (with ``augmentation``) each use of an image gets another haze; without, an image
    keeps the haze that follows from its name and ``seed``, so that measurements compare.

    Args:
        clear: The images.
        augmentation: As for :class:`ClearDataset`.
        haze: Ranges for :func:`~ktdn_plugin.haze.scattering.synthesize_haze`; its defaults where
            absent.
        seed: Seed of the hazes of whole images.
        depth: A depth map of each image, where there are any.
        degradation: Kinds of haze, and what cameras do before and after it; without it, clouds of
            haze alone.
    """

    def __init__(
        self,
        clear: Images,
        augmentation: Augmentation | None = None,
        haze: Mapping[str, Any] | None = None,
        seed: int = 0,
        depth: DepthMaps | None = None,
        degradation: Degradation | None = None,
    ) -> None:
        super().__init__(clear, augmentation)
        self.haze = dict(haze or {})
        self.seed = seed
        self.depth = depth
        self.degradation = degradation

    def __getitem__(self, index: int) -> Sample:
        """Returns ``hazy``, ``clear`` and ``name``.

        Raises:
            KTDNError: If the image cannot be read, or is smaller than the crop.
        """
        name = self.clear.name(index)
        clear = self.clear.read(index)
        if self.augmentation is None:
            seed = zlib.crc32(f"{self.seed}/{Path(name).name}".encode("utf-8", "surrogatepass"))
            hazy, clear = self._lay_haze(index, clear, seed, (0, 0, *clear.shape[:2]))
            return {"hazy": to_tensor(hazy), "clear": to_tensor(clear), "name": name}
        draw = self._draw(index, clear)
        sides = self._lay_haze(index, clear, random.getrandbits(32), draw.window)
        tensors = self._finish(list(sides), draw)
        return {"hazy": tensors[0], "clear": tensors[1], "name": name}

    def _lay_haze(
        self, index: int, clear: NDArray[np.uint8], seed: int, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Lays the haze of a whole image over a part of it: clouds are larger than most crops."""
        frame = clear.shape[0], clear.shape[1]
        part = cut(clear, window)
        if self.degradation is not None:
            return self._degrade(index, part, seed, frame, window)
        depth = None if self.depth is None else self.depth.crop(index, frame, window)
        haze = synthesize_haze(part, seed, frame=frame, at=window[:2], depth=depth, **self.haze)
        return haze.hazy, part

    def _degrade(
        self,
        index: int,
        part: NDArray[np.uint8],
        seed: int,
        frame: tuple[int, int],
        window: Window,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Degrades a part of an image, at the size at which it is used.

        Noise and JPEG's blocks are then of the size of those in a user's photograph, and a part
        that gets smaller costs no more than others.
        """
        assert self.degradation is not None
        distance = None if self.depth is None else self.depth.relative(index, frame, window)
        at = window[:2]
        if self.augmentation is not None:
            side = part.shape[0]
            part = self.augmentation.resize(part)
            distance = None if distance is None else self.augmentation.resize(distance)
            if side != len(part):
                factor = len(part) / side
                height, width = (max(len(part), round(edge * factor)) for edge in frame)
                frame = height, width
                top, left = (
                    min(round(start * factor), edge - len(part))
                    for start, edge in zip(at, frame, strict=True)
                )
                at = top, left
        hazy = degrade(
            part, seed, self.degradation, self.haze, frame=frame, at=at, distance=distance
        )
        return hazy, part
