"""The images of ``ktdn bench data``: photographs or a user's own, as PNG files and a store."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.atomic_folders import free_bytes
from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import decode_rgb, encode_png, read_file, read_rgb, read_size
from ktdn_plugin.photos.png_chunks import is_plain_png
from ktdn_plugin.scenes.opening import open_scenes
from ktdn_plugin.scenes.store import StoreInfo

MIB = 2**20
SIDES = ("hazy", "clear")
PHOTOS = (
    "astronaut.png", "rocket.jpg", "motorcycle_left.png", "chelsea.png", "coffee.png"
)  # fmt: skip
"""scikit-image's coloured photographs, none smaller than a tile."""

HEIGHT, WIDTH = 1200, 1600
TILE_HEIGHT, TILE_WIDTH = 300, 400

Image = NDArray[np.uint8]


class Pair(NamedTuple):
    """Where a pair comes from: a user's files, or photographs, where there are none.

    Attributes:
        files: The hazy and the clear file, None where the pair is to be made.
        size: Height and width of both.
    """

    files: tuple[Path, Path] | None
    size: tuple[int, int]


def find_pairs(hazy: Path | None, clear: Path | None, count: int, least: int) -> list[Pair]:
    """Finds the pairs to measure with, decoding none.

    Args:
        hazy: A user's folder of hazy images, or None for made pairs.
        clear: The folder of the clear ones.
        count: How many pairs, at most.
        least: Height and width that every image must have.

    Raises:
        KTDNError: If there are no pairs, the images of one differ in size, or one is too small.
    """
    if hazy is None or clear is None:
        if hazy is not clear:
            raise KTDNError("bench: --hazy and --gt go together; name both folders, or neither")
        pairs = [Pair(None, (HEIGHT, WIDTH)) for _ in range(count)]
    else:
        scenes = open_scenes(clear, hazy=hazy, allow_incomplete=True).aligned()
        files = zip(scenes.files("hazy")[:count], scenes.files("clear"), strict=False)
        pairs = [_measured(*pair) for pair in files]
    for pair in pairs:
        if min(pair.size) < least:
            what = f"{pair.files[0]}: " if pair.files else "bench: the pairs made of photographs: "
            raise KTDNError(
                f"{what}{pair.size[1]} x {pair.size[0]} pixels are less than the crop; lower "
                f"--crop-size {least}"
            )
    return pairs


def _measured(hazy: Path, clear: Path) -> Pair:
    sizes = read_size(hazy), read_size(clear)
    if sizes[0] != sizes[1]:
        text = " and ".join(f"{width} x {height}" for height, width in sizes)
        raise KTDNError(f"{hazy} and {clear} differ in size ({text}); make them equal")
    return Pair((hazy, clear), sizes[0])


def image_file(folder: Path, side: str, number: int) -> Path:
    """Returns the place of a PNG file."""
    return folder / side / f"{number:04}.png"


def write_pairs(folder: Path, pairs: list[Pair], seed: int) -> Iterator[None]:
    """Writes ``hazy/0000.png``, ``clear/0000.png`` and so on.

    A user's PNG of 8-bit RGB is copied as it is; whatever else is written as one.

    Args:
        folder: Where to write.
        pairs: The pairs.
        seed: Seed of the made ones.

    Yields:
        Nothing, after each pair.

    Raises:
        KTDNError: If an image cannot be read.
    """
    for side in SIDES:
        (folder / side).mkdir()
    photos = [] if all(pair.files for pair in pairs) else [_load(name) for name in PHOTOS]
    for number, pair in enumerate(pairs):
        if pair.files is None:
            clear = _make_mosaic(photos, np.random.default_rng([seed, number]))
            hazy = synthesize_haze(clear, (seed + number) % 2**32).hazy
            made = np.rint(255 * hazy).astype(np.uint8), clear
            contents = [_as_png(image) for image in made]
        else:
            contents = [_plain_png(path) for path in pair.files]
        for side, content in zip(SIDES, contents, strict=True):
            image_file(folder, side, number).write_bytes(content)
        yield


def write_store(folder: Path, count: int) -> Iterator[None]:
    """Writes the store that ``ktdn prepare`` would make of the PNG files.

    Args:
        folder: Holds them.
        count: The number of pairs.

    Yields:
        Nothing, after each image.
    """
    counts = dict.fromkeys(SIDES, count)
    with StoreWriter(folder / "store", {}) as writer:
        for side in SIDES:
            for number in range(count):
                file = image_file(folder, side, number)
                writer.add(side, number, read_rgb(file), f"{side}/{file.name}")
                yield
        pairs = np.repeat(np.arange(count, dtype=np.int32)[:, None], len(SIDES), axis=1)
        writer.finish(StoreInfo("bench", "all", counts, 2 * count, 0, 0), pairs)


def check_room(folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Refuses a disk that is too small for the PNG files and the store of pairs.

    Args:
        folder: Where they are to be written.
        sizes: Height and width of each image.

    Raises:
        KTDNError: If it is.
    """
    pixels = 2 * sum(h * w for h, w in sizes)  # as if nothing could be compressed
    needed, free = len(SIDES) * 3 * pixels + 16 * MIB, free_bytes(folder)
    if needed > free:
        raise KTDNError(
            f"{folder}: up to {needed // MIB} MiB are needed, {free // MIB} MiB are free on its "
            "disk; lower --pairs, or set TMPDIR to a folder on another disk"
        )


def _load(name: str) -> Image:
    # Found without importing scikit-image, whose loaders may want to download.
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise KTDNError(
            "bench: scikit-image's photographs are needed: pip install scikit-image, or name your "
            "own images with --hazy and --gt"
        )
    return read_rgb(Path(spec.origin).parent / "data" / name)


def _make_mosaic(photos: list[Image], random: np.random.Generator) -> Image:
    """Lays tiles of photographs side by side.

    Each tile is at its photograph's own resolution: an enlarged photograph would have less detail
    than a camera's, and its PNG would be smaller and quicker to decode.
    """
    mosaic = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for top in range(0, HEIGHT, TILE_HEIGHT):
        for left in range(0, WIDTH, TILE_WIDTH):
            photo = photos[random.integers(len(photos))]
            y = random.integers(photo.shape[0] - TILE_HEIGHT + 1)
            x = random.integers(photo.shape[1] - TILE_WIDTH + 1)
            tile = photo[y : y + TILE_HEIGHT, x : x + TILE_WIDTH]
            mosaic[top : top + TILE_HEIGHT, left : left + TILE_WIDTH] = tile
    return mosaic


def _plain_png(path: Path) -> bytes:
    content = read_file(path)
    image = decode_rgb(content, path)  # also one that is copied: it must be whole
    return content if is_plain_png(content) else _as_png(image)


def _as_png(rgb: Image) -> bytes:
    # OpenCV's default is decoded a quarter quicker than what Pillow writes: in the files' favour.
    return bytes(encode_png(rgb, level=None))
