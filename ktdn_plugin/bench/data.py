"""``ktdn bench data``: BasicSR's paired dataset and ours, on PNG files and on a store.

All of them read crops of the same images, with the same flips and turns, and are refused unless
their samples are bit for bit the same. The files have just been written, so all are in the page
cache, and no reader waits for a disk.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from ktdn_plugin.bench.ways import (
    Step,
    Way,
    baseline,
    explain_peak,
    format_ways,
    measure,
    raise_if_failed,
    require_least,
)
from ktdn_plugin.console import print_lines
from ktdn_plugin.data.atomic_folders import disk_failures_as_errors
from ktdn_plugin.data.demo_photos import sample_photo
from ktdn_plugin.data.store_writer import StoreWriter
from ktdn_plugin.environment import describe_machine
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import encode_png, read_rgb
from ktdn_plugin.scenes.opening import open_scenes
from ktdn_plugin.scenes.store import StoreInfo

BATCH_SIZE = 16
STEP_SECONDS = 0.5  # at least
SIDES = ("hazy", "clear")
FORMS = (
    ("PairedImageDataset, PNG files", "PairedImageDataset", "hazy", "clear"),
    ("ours, PNG files", "PairedHazeDataset", "hazy", "clear"),
    ("ours, store", "PairedHazeDataset", None, "store"),
)
"""Each reader's name, the dataset's class, and its files; the first is the baseline.

The baseline is BasicSR's own, which reads plain PNGs, as here, to the same pixels.
"""

PHOTOS = (
    "astronaut.png", "rocket.jpg", "motorcycle_left.png", "chelsea.png", "coffee.png"
)  # fmt: skip
"""scikit-image's colour photographs, none smaller than a tile."""

HEIGHT, WIDTH = 1200, 1600
TILE_HEIGHT, TILE_WIDTH = 300, 400

Image = NDArray[np.uint8]


def run_bench_data(
    hazy: Path | None = None,
    clear: Path | None = None,
    pairs: int = 6,
    size: int = 256,
    workers: Sequence[int] = (0,),
    steps: int = 5,
    warmup: int = 1,
    seed: int = 0,
) -> None:
    """Measures how fast training crops are read, and prints a table.

    Args:
        hazy: Folder of hazy images; without it, pairs are synthesised from photographs.
        clear: Folder of the clear ones.
        pairs: Maximum number of pairs to measure with.
        size: Height and width of a crop.
        workers: Numbers of data loader processes; with 0 samples are read without a loader.
        steps: Timed steps per reader, half a second or longer; the median is reported.
        warmup: Steps before them, may be 0.
        seed: Seed of crops, flips and turns, and of synthesised pairs.

    Raises:
        KTDNError: If an argument is wrong, an image cannot be read, the disk is too small, or two
            readers give different samples.
    """
    require_least({"pairs": (pairs, 1), "size": (size, 1), "workers": (min(workers), 0)})
    require_least({"steps": (steps, 1), "warmup": (warmup, 0), "seed": (seed, 0)})
    files = find_pairs(hazy, clear, pairs)
    made = make_pairs(pairs, seed) if files is None else map(read_pair, files)
    count = pairs if files is None else len(files)
    with tempfile.TemporaryDirectory(prefix="ktdn-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with disk_failures_as_errors(
            folder, "free some space, or set TMPDIR to a folder on another disk"
        ):
            write_files(folder, tqdm(made, "pairs", count, disable=None, leave=False), size)
        ways = [
            Way(
                name + _counted(number),
                {
                    "device": "cpu",
                    "kind": kind,
                    "hazy": None if hazy_part is None else str(folder / hazy_part),
                    "clear": str(folder / clear_part),
                    "size": size,
                    "images": count,
                    "workers": number,
                    "seed": seed,
                },
            )
            for number in workers
            for name, kind, hazy_part, clear_part in FORMS
        ]
        device = torch.device("cpu")
        for line in describe_machine(device):
            print_lines(line)
        source = "made of photographs" if files is None else f"of {hazy} and {clear}"
        print_lines(
            f"images {count} pairs {source}",
            f"crops  {size} x {size}, flipped and turned; batches of {BATCH_SIZE}; all files in "
            "the page cache; a process reads with one thread",
            "",
        )
        measure(__name__, ways, steps, warmup)
        check_equal(ways)
        disk = {"MiB on disk": lambda way, _: f"{_bytes(way.job) / 2**20:.1f}"}
        print_lines(*format_ways(ways, "sample", disk), "", explain_peak(device))
    raise_if_failed(ways)


def _counted(workers: int) -> str:
    return f", {workers} worker{'s' if workers > 1 else ''}" if workers else ""


def _bytes(job: Mapping[str, Any]) -> int:
    folders = [Path(job[side]) for side in SIDES if job[side] is not None]
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir())


def find_pairs(hazy: Path | None, clear: Path | None, count: int) -> list[tuple[Path, Path]] | None:
    """Finds at most ``count`` pairs of a user's; None if no folders are named."""
    if hazy is None or clear is None:
        if hazy is not clear:
            raise KTDNError("bench: --hazy and --gt go together; give both folders, or neither")
        return None
    scenes = open_scenes(clear, hazy=hazy, allow_incomplete=True).aligned()
    return list(zip(scenes.files("hazy")[:count], scenes.files("clear"), strict=False))


def read_pair(files: tuple[Path, Path]) -> tuple[Image, Image]:
    """Reads a user's hazy and clear image."""
    hazy, clear = map(read_rgb, files)
    if hazy.shape != clear.shape:
        text = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (hazy, clear))
        raise KTDNError(f"{files[0]} and {files[1]} differ in size ({text}); make them equal")
    return hazy, clear


def make_pairs(count: int, seed: int) -> Iterator[tuple[Image, Image]]:
    """Makes pairs from tiles of photographs and synthetic haze."""
    photos = [sample_photo(name) for name in PHOTOS]
    for number in range(count):
        clear = _make_mosaic(photos, np.random.default_rng([seed, number]))
        hazy = synthesize_haze(clear, (seed + number) % 2**32).hazy
        yield np.rint(255 * hazy).astype(np.uint8), clear


def _make_mosaic(photos: list[Image], random: np.random.Generator) -> Image:
    """Lays tiles of photographs side by side.

    Each tile keeps its photograph's resolution: an enlarged photograph would have less detail than
    a camera's, and its PNG would be smaller and quicker to decode.
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


def write_files(folder: Path, pairs: Iterator[tuple[Image, Image]], least: int) -> None:
    """Writes ``hazy/0000.png``, ``clear/0000.png`` and so on, and a store of the same pixels.

    Args:
        folder: Where to write.
        pairs: Hazy and clear images.
        least: Height and width that every image must have.

    Raises:
        KTDNError: If an image is too small.
    """
    for side in SIDES:
        (folder / side).mkdir()
    count = 0
    with StoreWriter(folder / "store", {}) as writer:
        for number, pair in enumerate(pairs):
            height, width = pair[0].shape[:2]
            if min(height, width) < least:
                raise KTDNError(
                    f"bench: images of {width} x {height} pixels are smaller than the crop; lower "
                    f"--crop-size {least}"
                )
            for side, image in zip(SIDES, pair, strict=True):
                file = folder / side / f"{number:04}.png"
                # OpenCV's default decodes a quarter faster than what Pillow writes, which favours
                # the files.
                file.write_bytes(encode_png(image, options=()))
                writer.add(side, number, image, f"{side}/{file.name}")
            count = number + 1
        counts = dict.fromkeys(SIDES, count)
        numbers = np.repeat(np.arange(count, dtype=np.int32)[:, None], len(SIDES), axis=1)
        writer.finish(StoreInfo("bench", "all", counts, 2 * count, 0, 0), numbers)


class DrawnSamples(Dataset):
    """A dataset's samples, whose crop, flips and turn are seeded by their number.

    Args:
        dataset: A dataset that draws from ``random``.
        images: Number of its images.
        seed: Seed of all samples.
    """

    def __init__(self, dataset: Any, images: int, seed: int) -> None:
        self.dataset = dataset
        self.images = images
        self.seed = seed

    def __getitem__(self, number: int) -> Any:
        """Reads a sample; there are infinitely many."""
        random.seed(f"{self.seed}/{number}")
        return self.dataset[number % self.images]


def _endless_batches() -> Iterator[list[int]]:
    start = 0
    while True:
        yield list(range(start, start + BATCH_SIZE))
        start += BATCH_SIZE


def prepare(
    device: str,
    kind: str,
    hazy: str | None,
    clear: str,
    size: int,
    images: int,
    workers: int,
    seed: int,
) -> Step:
    """Opens a dataset; a step reads batches for some time, or equally many from each worker.

    Its result contains the digest of its first batch.
    """
    # Imported late: BasicSR takes seconds.
    from ktdn_plugin.basicsr.building import build_training_dataset

    use_one_thread()
    dataset = build_training_dataset(kind, Path(hazy) if hazy else None, Path(clear), size)
    samples, numbers = DrawnSamples(dataset, images, seed), _endless_batches()
    batches = _with_workers(samples, numbers, workers) if workers else None

    def read() -> list[Any]:
        if batches is not None:
            return [next(batches) for _ in range(workers)]
        # Without a data loader, as collating is not part of reading.
        return [[samples[number] for number in next(numbers)]]

    def run() -> Callable[[], dict[str, Any]]:
        start = time.perf_counter()
        first, *others = read()
        count = 1 + len(others)
        while time.perf_counter() - start < STEP_SECONDS:
            count += len(read())
        return lambda: {
            "count": BATCH_SIZE * count,
            "digest": digest(first if workers else default_collate(first)),
        }

    return run


def _with_workers(
    samples: DrawnSamples, numbers: Iterator[list[int]], workers: int
) -> Iterator[dict[str, Any]]:
    loader: DataLoader = DataLoader(
        samples,
        batch_sampler=numbers,
        num_workers=workers,
        worker_init_fn=use_one_thread,
    )
    return iter(loader)


def use_one_thread(_: int = 0) -> None:
    """Makes a process read with one thread, so that each worker uses one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def digest(batch: dict[str, Any]) -> str:
    """Returns the digest of a batch's pixels."""
    images = hashlib.sha256()
    for key in ("lq", "gt"):
        images.update(np.ascontiguousarray(batch[key].numpy()).tobytes())
    return images.hexdigest()


def check_equal(ways: Sequence[Way]) -> None:
    """Refuses ways if one gave a different first batch from the first."""
    first = baseline(ways)
    for way in ways:
        if (
            first is not None
            and way.error is None
            and way.result["digest"] != first.result["digest"]
        ):
            raise KTDNError(
                f"bench: '{way.name}' and '{first.name}' give different samples; speeds of unequal "
                "work are not compared"
            )
