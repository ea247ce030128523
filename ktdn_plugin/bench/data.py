"""``ktdn bench data``: BasicSR's paired dataset and ours, on PNG files and on a store.

All of them read crops of the same images, with the same flips and turns, in one process of one
thread. The readers take turns of a fraction of a second, so that whatever else the machine does
hits all alike. Before anything is timed they are shown to give the same, bit by bit.

The files have just been written and read: all lie in the system's page cache, and no reader waits
for a disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from tqdm import tqdm

from ktdn_plugin.bench.data_images import (
    MIB,
    Pair,
    check_room,
    find_pairs,
    write_pairs,
    write_store,
)
from ktdn_plugin.bench.data_readers import (
    BATCH_SIZE,
    Draw,
    DrawnSamples,
    Reader,
    check_equal,
    make_draws,
    read_with_workers,
)
from ktdn_plugin.bench.machine import describe_machine
from ktdn_plugin.console import print_lines
from ktdn_plugin.data.atomic_folders import disk_failures_as_errors
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.text_tables import table_lines

TURNS = 10
DRAWS = 4096
CHECKED = 8
WANTED = 1600  # samples a second that an H200 trains on

FORMS = (
    ("PairedImageDataset, PNG files", "PairedImageDataset", "hazy", "clear"),
    ("ours, PNG files", "PairedHazeDataset", "hazy", "clear"),
    ("ours, store", "PairedHazeDataset", None, "store"),
)
"""Each reader's name, the dataset's class, and its files; the first is the baseline.

It is BasicSR's own, which reads files by itself: of plain PNGs, as here, the same pixels.
"""

HEADINGS = ("reader", "ms/sample", "samples/s/core", "speed", "MiB on disk")


class _Plan(NamedTuple):
    """What every reader is given.

    Attributes:
        folder: Holds the files.
        size: Height and width of a crop.
        draws: The samples.
    """

    folder: Path
    size: int
    draws: list[Draw]


def run_bench_data(
    hazy: Path | None = None,
    clear: Path | None = None,
    pairs: int = 6,
    size: int = 256,
    samples: int | None = None,
    seconds: float = 5.0,
    workers: Sequence[int] = (0,),
    seed: int = 0,
) -> None:
    """Measures how fast training crops are read, and prints a table.

    Args:
        hazy: Folder of hazy images; pairs are made of photographs where it is absent.
        clear: Folder of the clear ones.
        pairs: Pairs to measure with, at most.
        size: Height and width of a crop.
        samples: Samples that each reader reads, at most; as many as the time allows where absent.
        seconds: Time for each reader.
        workers: 0 for the table alone; other numbers are measured as well, each with so many
            processes of a data loader.
        seed: Seed of crops, flips and turns, and of the pairs that are made.

    Raises:
        KTDNError: If an argument is wrong, an image cannot be read, the disk is too small, or two
            readers give different samples.
    """
    _check(pairs, size, samples, seconds, workers, seed)
    found = find_pairs(hazy, clear, pairs, size)
    sizes = [pair.size for pair in found]
    with _one_thread(), _temporary_folder() as folder:
        check_room(folder, sizes)
        for line in describe_machine(torch.device("cpu")):
            print_lines(line)
        source = "made of photographs" if hazy is None else f"of {hazy} and {clear}"
        print_lines(f"images {len(found)} pairs {source}, {_shown(sizes)}")
        print_lines(f"crops  {size} x {size}, flipped and turned; all files in the page cache", "")
        with disk_failures_as_errors(
            folder, "free some space, or set TMPDIR to a folder on another disk"
        ):
            _write_files(folder, found, seed)
        plan = _Plan(folder, size, make_draws(len(found), samples or DRAWS, seed))
        readers = _open_readers(plan)
        check_equal(readers, min(max(CHECKED, len(found)), len(plan.draws)))
        _take_turns(readers, seconds, samples)
        print_lines(*format_table(readers))
        cores = ", ".join(f"{WANTED * _median(each):.1f} ({each.name})" for each in readers)
        print_lines("", f"cores that read {WANTED} samples a second: {cores}")
        for number in workers:
            if number:
                _measure_workers(plan, number, seconds)


def _check(
    pairs: int,
    size: int,
    samples: int | None,
    seconds: float,
    workers: Sequence[int],
    seed: int,
) -> None:
    for what, value, least in (
        ("pairs", pairs, 1),
        ("size", size, 1),
        ("samples", 1 if samples is None else samples, 1),
        ("workers", min(workers, default=0), 0),
        ("seed", seed, 0),
    ):
        if value < least:
            raise KTDNError(f"bench: {what} is {value}; it must be at least {least}")
    if not 0 < seconds < float("inf"):
        raise KTDNError(f"bench: seconds is {seconds:g}; it must be above 0")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Makes 'per core' mean what it says."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Returns a folder that is removed at the end, also where the process is asked to end."""
    owner = os.getpid()

    def end(number: int, _: Any) -> None:
        # A worker that is forked inherits this.
        os._exit(128 + number) if os.getpid() != owner else sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with tempfile.TemporaryDirectory(
            prefix="ktdn-bench-", ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def _shown(sizes: Sequence[tuple[int, int]]) -> str:
    low, high = min(sizes), max(sizes)
    texts = [f"{width} x {height}" for height, width in (low, high)]
    return texts[0] if low == high else " to ".join(texts)


def _write_files(folder: Path, pairs: list[Pair], seed: int) -> None:
    with tqdm(total=3 * len(pairs), unit="image", disable=None, leave=False) as bar:
        for what, steps in (
            ("PNG files", write_pairs(folder, pairs, seed)),
            ("store", write_store(folder, len(pairs))),
        ):
            bar.set_description(what)
            for _ in steps:
                bar.update()


def _open_readers(plan: _Plan) -> list[Reader]:
    # Imported late: BasicSR takes seconds.
    from ktdn_plugin.basicsr.building import build_training_dataset

    readers = []
    for name, kind, hazy, clear in FORMS:
        lq = None if hazy is None else plan.folder / hazy
        dataset = build_training_dataset(kind, lq, plan.folder / clear, plan.size)
        disk = sum(_bytes(plan.folder / part) for part in (hazy, clear) if part)
        readers.append(Reader(name, DrawnSamples(dataset, plan.draws), disk))
    return readers


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _take_turns(readers: Sequence[Reader], seconds: float, samples: int | None) -> None:
    with tqdm(total=TURNS * len(readers), unit="turn", disable=None, leave=False) as bar:
        for _ in range(TURNS):
            for reader in readers:
                bar.set_description(reader.name)
                if samples is None or reader.taken < samples:
                    most = DRAWS if samples is None else -(-samples // TURNS)
                    reader.take_turn(seconds / TURNS, most)
                bar.update()


def _median(reader: Reader) -> float:
    return statistics.median(reader.times)


def format_table(readers: Sequence[Reader]) -> list[str]:
    """Formats what was measured as lines of a table."""
    png = _median(readers[0])
    rows = [HEADINGS]
    for reader in readers:
        own = _median(reader)
        speed, disk = f"{png / own:.1f}x", f"{reader.disk / MIB:.1f}"
        rows.append((reader.name, f"{1000 * own:.3f}", f"{1 / own:.1f}", speed, disk))
    return table_lines(rows)


def _measure_workers(plan: _Plan, workers: int, seconds: float) -> None:
    print_lines("", f"{workers} workers of a data loader, batches of {BATCH_SIZE}:")
    readers = _open_readers(plan)
    for reader in tqdm(readers, "workers", unit="reader", disable=None, leave=False):
        speed = read_with_workers(reader.samples, workers, seconds)
        tqdm.write(f"{workers} workers: {speed:.1f} samples/s ({reader.name})")
