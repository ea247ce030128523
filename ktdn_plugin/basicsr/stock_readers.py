"""What ``ktdn bench data`` compares: BasicSR's own paired dataset on each kind of file that it has.

The dataset is BasicSR's, untouched, and its LMDBs are made by its own ``LmdbMaker``; only the
order of the files, which it leaves to the file system, is set, so that all readers agree on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ktdn_plugin.basicsr import register
from ktdn_plugin.bench.data_images import SIDES, image_file
from ktdn_plugin.data.sources import Window, cut

SUB_IMAGE = 480
COMPRESSION = 1  # the default of BasicSR's LMDB tools


class SubImage(NamedTuple):
    """A part of an image that is stored for itself.

    Attributes:
        image: The image's number.
        window: Where in the image it lies.
    """

    image: int
    window: Window


def sub_image_side(sizes: list[tuple[int, int]], crop: int) -> int:
    """Gives the height and width of sub-images: 480, unless the crop or the images forbid it.

    Args:
        sizes: Height and width of each image.
        crop: What is to be cut out of sub-images later on.
    """
    return min(max(SUB_IMAGE, crop), *(min(size) for size in sizes))


def find_sub_images(sizes: list[tuple[int, int]], side: int) -> list[SubImage]:
    """Tells how BasicSR's script ``extract_subimages.py`` cuts images.

    That is with the values that it has for whole images: squares of 480 x 480 every 240 pixels,
    and one more at the end where any pixel is left over (``thresh_size: 0``).

    Args:
        sizes: Height and width of each image.
        side: Height and width of a sub-image; they lie half as far apart.
    """
    return [
        SubImage(number, (top, left, side, side))
        for number, (height, width) in enumerate(sizes)
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]


def _starts(length: int, side: int) -> list[int]:
    starts = list(range(0, length - side + 1, max(1, side // 2)))
    return [*starts, length - side] if starts[-1] + side < length else starts


def write_lmdbs(folder: Path, sizes: list[tuple[int, int]], subs: list[SubImage]) -> Iterator[None]:
    """Makes BasicSR's LMDBs of ``hazy`` and ``clear``, and of their sub-images.

    Args:
        folder: Holds the PNG files; ``hazy.lmdb``, ``clear.lmdb``, ``hazy_sub.lmdb`` and
            ``clear_sub.lmdb`` are made in it.
        sizes: Height and width of each image.
        subs: The sub-images.

    Yields:
        Nothing, after each image.
    """
    register()
    from basicsr.utils.lmdb_util import LmdbMaker

    for side in SIDES:
        with (
            closing(LmdbMaker(str(folder / f"{side}.lmdb"), _room(sizes))) as whole,
            closing(
                LmdbMaker(str(folder / f"{side}_sub.lmdb"), _room(sub.window[2:] for sub in subs))
            ) as parts,
        ):
            for number in range(len(sizes)):
                content = np.fromfile(image_file(folder, side, number), np.uint8)
                image = np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED))
                _put(whole, f"{number:04}", image)
                windows = [sub.window for sub in subs if sub.image == number]
                for index, window in enumerate(windows):
                    part = np.ascontiguousarray(cut(image, window))
                    _put(parts, f"{number:04}_s{index:05}", part)
                yield


def _room(sizes: Iterable[tuple[int, ...]]) -> int:
    # A PNG of pure noise is a little larger than its pixels. The file grows by what is written.
    return 2 * sum(3 * height * width + 4096 for height, width in sizes) + 2**24


def _put(maker: Any, key: str, image: Any) -> None:
    _, png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    maker.put(png.tobytes(), key, image.shape)


def open_dataset(kind: str, hazy: Path | None, clear: Path, size: int) -> Any:
    """Builds a training dataset as its options would, with random crops, flips and turns.

    Args:
        kind: ``PairedImageDataset``, which is BasicSR's, or ``PairedHazeDataset``, which is ours.
        hazy: Folder or LMDB (``NAME.lmdb``) of hazy images; None for a store, which has both.
        clear: Folder or LMDB of clear images, or a store.
        size: Height and width of the crops.

    Returns:
        The dataset: samples with ``lq`` and ``gt``, in the order of the images' names.
    """
    register()
    import basicsr.data  # noqa: F401 - registers PairedImageDataset
    from basicsr.utils.registry import DATASET_REGISTRY

    options = {
        "phase": "train",
        "scale": 1,
        "dataroot_gt": str(clear),
        "gt_size": size,
        "use_hflip": True,
        "use_rot": True,
        "io_backend": {"type": "lmdb" if clear.suffix == ".lmdb" else "disk"},
    }
    if hazy is not None:
        options["dataroot_lq"] = str(hazy)
    dataset = DATASET_REGISTRY.get(kind)(options)
    if kind == "PairedImageDataset":
        dataset.paths.sort(key=lambda pair: str(pair["gt_path"]))
    return dataset


def close_dataset(dataset: Any) -> None:
    """Closes what BasicSR's dataset has opened: a process may open an LMDB only once."""
    client = getattr(getattr(dataset, "file_client", None), "client", None)
    for environment in getattr(client, "_client", {}).values():
        environment.close()
