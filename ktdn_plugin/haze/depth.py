"""Depth maps, for haze that thickens with distance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_photo
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.images import Window, cut


def read_depth(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Reads a depth image.

    Args:
        path: An image, brighter where the scene is farther; 16 bit stays 16 bit.
        size: Height and width that it must have.

    Returns:
        Depth, (h, w), whose mean is 1.

    Raises:
        KTDNError: It cannot be read, has another size, or is black all over.
    """
    depth = np.asarray(cv2.cvtColor(read_photo(path).pixels, cv2.COLOR_RGB2GRAY))
    if depth.shape != tuple(size):
        found, wanted = (f"{width} x {height}" for height, width in (depth.shape, size))
        raise KTDNError(f"depth {path}: is {found} pixels, its photo {wanted}; resize it")
    # A sum of integers, which is the same in any order and so on any machine.
    total = int(depth.sum(dtype=np.int64))
    if total <= 0:
        raise KTDNError(f"depth {path}: is black; it must be brighter where the scene is farther")
    return (depth * (depth.size / total)).astype(np.float32)


class DepthMaps:
    """The depth maps of a row of images.

    Args:
        paths: One for each image.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    @classmethod
    def of_folder(cls, folder: Path, names: Sequence[str]) -> DepthMaps:
        """Finds the depth map of each image in a folder, by its name without suffix.

        Raises:
            KTDNError: If one is missing, or two maps or two images share a name.
        """
        found: dict[str, Path] = {}
        for path in list_images(folder):
            if path.stem in found:
                raise KTDNError(
                    f"{found[path.stem]} and {path}: two depth maps with the same name; keep one"
                )
            found[path.stem] = path
        stems = [Path(name).stem for name in names]
        missing = [name for name, stem in zip(names, stems, strict=True) if stem not in found]
        if missing:
            raise KTDNError(
                f"{folder}: has no depth map for {len(missing)} of {len(names)} images, such as "
                f"{missing[0]}; give each a file with its name"
            )
        seen: dict[str, str] = {}
        for name, stem in zip(names, stems, strict=True):
            if stem in seen:
                raise KTDNError(
                    f"{seen[stem]} and {name} have the same name and share the depth map "
                    f"{found[stem]}; "
                    "rename one"
                )
            seen[stem] = name
        return cls([found[stem] for stem in stems])

    def crop(self, index: int, frame: tuple[int, int], window: Window) -> NDArray[np.float32]:
        """Reads the part of a depth map that belongs to a part of its image.

        Raises:
            KTDNError: If it cannot be read, or is of another size than the image.
        """
        depth: NDArray[np.float32] = cut(read_depth(self.paths[index], frame), window)
        return depth

    def relative(self, index: int, frame: tuple[int, int], window: Window) -> NDArray[np.float32]:
        """Reads a part of a depth map as :meth:`crop` does, with 0 nearest and 1 farthest.

        Raises:
            KTDNError: As :meth:`crop` does.
        """
        depth = read_depth(self.paths[index], frame)
        nearest, farthest = depth.min(), depth.max()
        if nearest == farthest:
            return cut(np.ones_like(depth), window)
        distance: NDArray[np.float32] = (cut(depth, window) - nearest) / (farthest - nearest)
        return distance
