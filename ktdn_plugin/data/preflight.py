"""A first check of a training's images, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.data.datasets import ClearDataset, SyntheticHazeDataset
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_size
from ktdn_plugin.scenes.images import BasicSRImages, Images, StoreImages

LOOKED_AT_MOST = 2000  # files whose sizes are compared before a run; the others in its course


def check_depth(dataset: ClearDataset) -> None:
    """Compares the sizes of depth maps with those of their images.

    Raises:
        KTDNError: If one differs.
    """
    if not isinstance(dataset, SyntheticHazeDataset) or dataset.depth is None:
        return
    for number in range(preflight_count(dataset.clear)):
        found, wanted = read_size(dataset.depth.paths[number]), dataset.clear.size(number)
        if found != wanted:
            sizes = [f"{width} x {height}" for height, width in (found, wanted)]
            raise KTDNError(
                f"depth {dataset.depth.paths[number]}: is {sizes[0]} pixels, its photo "
                f"{dataset.clear.describe(number)} {sizes[1]}; resize it"
            )


def check_sides(
    sides: Sequence[Images],
    crop: int | None,
    *,
    skips: bool = False,
    scale: int = 1,
    border: tuple[str, int] = ("", 0),
) -> None:
    """Checks that images can be read, that pairs have the same size, and are large enough.

    Args:
        sides: The clear images, or the hazy ones and the clear one of each.
        crop: Side in pixels of what is cut out of a clear one in training; None in validation.
        skips: Whether images that cannot be read are going to be skipped.
        scale: How much larger a clear image is than its hazy one.
        border: Pixels that a metric leaves out at each edge, and the option that says so.

    Raises:
        KTDNError: If something is wrong with one of them.
    """
    if not skips:
        sides[0].read(0)
    for number in range(preflight_count(sides[-1])):
        try:
            _check_sizes(sides, number, crop, scale, border)
        except KTDNError:
            if not skips:
                raise


def preflight_count(images: Images) -> int:
    """How many images' sizes can be compared without keeping the user waiting."""
    if isinstance(images, StoreImages):
        return len(images)
    # A BasicSR LMDB tells an image's size only by decoding it.
    return min(len(images), 1 if isinstance(images, BasicSRImages) else LOOKED_AT_MOST)


def _check_sizes(
    sides: Sequence[Images], number: int, crop: int | None, scale: int, border: tuple[str, int]
) -> None:
    """Compares a pair's sizes, a training image's with the crop's, others' with the border."""
    sizes: list[tuple[int, ...]] = [side.size(number) for side in sides]
    if len(sides) == 2 and sizes[1] != tuple(edge * scale for edge in sizes[0]):
        # Not every header reports a rotation that decoding applies; look before complaining.
        sizes = [side.read(number).shape[:2] for side in sides]
    if len(sides) == 2 and sizes[1] != tuple(edge * scale for edge in sizes[0]):
        shown = " and ".join(f"{width} x {height}" for height, width in sizes)
        times = f", scale: {scale}" if scale != 1 else ""
        raise KTDNError(
            f"{sides[0].describe(number)} and {sides[1].describe(number)} differ in size "
            f"({shown}{times})"
        )
    height, width = sizes[-1]
    if crop is not None and min(height, width) < crop:
        raise KTDNError(
            f"{sides[-1].describe(number)}: {width} x {height} pixels, smaller than the crop, "
            f"gt_size: {crop}; lower it or remove the image"
        )
    if min(height, width) <= 2 * border[1]:
        raise KTDNError(
            f"{sides[-1].describe(number)}: {width} x {height} pixels leave nothing to "
            f"measure within {border[0]}: {border[1]}; lower it or remove the image"
        )


def check_names(images: Images) -> None:
    """Checks that results, which are named after images alone, would not overwrite each other.

    Raises:
        KTDNError: If two images have one name.
    """
    seen: dict[str, int] = {}
    for number in range(len(images)):
        stem = Path(images.name(number)).stem
        if stem in seen:
            raise KTDNError(
                f"{images.describe(seen[stem])} and {images.describe(number)} would both be saved "
                f"as {stem}.png; rename one"
            )
        seen[stem] = number
