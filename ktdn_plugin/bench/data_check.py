"""Whether readers that are compared for speed give the same samples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ktdn_plugin.bench.data_images import SIDES, image_file
from ktdn_plugin.bench.data_readers import Reader
from ktdn_plugin.data.augmentation import Augmentation, to_tensor
from ktdn_plugin.data.images import read_image
from ktdn_plugin.data.sources import Window, cut
from ktdn_plugin.errors import KTDNError

KEYS = {"hazy": "lq", "clear": "gt"}


def check_equal(
    folder: Path, readers: Sequence[Reader], windows: Sequence[Window], size: int, count: int
) -> None:
    """Compares the readers' first samples bit by bit.

    A reader of whole images must give what the first one gives. A reader of sub-images draws its
    crop within one of them: it must give that part of the whole image, flipped and turned alike.

    Args:
        folder: Holds the PNG files.
        readers: The readers.
        windows: Where each sub-image lies in its image.
        size: Height and width of the crops.
        count: Samples to compare.

    Raises:
        KTDNError: If a sample differs.
    """
    for number in tqdm(range(count), "comparing", unit="sample", disable=None, leave=False):
        first = readers[0].samples[number]
        for reader in readers[1:]:
            draw, first_parts = reader.samples.draws[number], reader.samples.first_parts
            if first_parts is None:
                wanted = {side: first[key] for side, key in KEYS.items()}
                what = readers[0].name
            else:
                window = windows[first_parts[draw.image] + draw.part]
                wanted = _part_of_whole(folder, draw.image, window, draw.seed, size)
                what = "the same part of the whole image"
            sample = reader.samples[number]
            for side, key in KEYS.items():
                if not torch.equal(sample[key], wanted[side]):
                    raise KTDNError(
                        f"bench: '{reader.name}' gives something else than {what} "
                        f"({image_file(folder, side, draw.image).name}, {side}, sample {number}); "
                        "speeds of unequal work are not compared"
                    )


def _part_of_whole(
    folder: Path, image: int, window: Window, seed: int, size: int
) -> dict[str, Tensor]:
    augmentation = Augmentation(size)
    random.seed(seed)
    draw = augmentation.draw(*window[2:])
    at = (window[0] + draw.window[0], window[1] + draw.window[1], size, size)
    return {
        side: to_tensor(
            augmentation.place(cut(read_image(image_file(folder, side, image)), at), draw)
        )
        for side in SIDES
    }
