"""Reading the same crops through different datasets: what is drawn, whether equal, how fast."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ktdn_plugin.errors import KTDNError

BATCH_SIZE = 16


class Draw(NamedTuple):
    """One sample that every reader is asked for.

    Attributes:
        image: The image's number.
        seed: Seeds the crop, the flips and the quarter turn, which the dataset itself draws.
    """

    image: int
    seed: int


def make_draws(images: int, count: int, seed: int) -> list[Draw]:
    """Draws samples; each image comes up once before any comes up again.

    Args:
        images: How many images there are.
        count: How many samples.
        seed: Seed of the draws.
    """
    generator = random.Random(seed)
    draws: list[Draw] = []
    while len(draws) < count:
        order = generator.sample(range(images), images)
        draws += [Draw(image, generator.getrandbits(32)) for image in order]
    return draws[:count]


class DrawnSamples(Dataset):
    """A dataset asked for draws.

    Args:
        dataset: A dataset that draws from ``random``.
        draws: The draws.
    """

    def __init__(self, dataset: Any, draws: Sequence[Draw]) -> None:
        self.dataset = dataset
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, number: int) -> Any:
        """Reads the sample of a draw."""
        image, seed = self.draws[number]
        random.seed(seed)
        return self.dataset[image]


@dataclass
class Reader:
    """One way to read, and what was measured of it.

    Attributes:
        name: What the table calls it.
        samples: The draws, read this way.
        disk: Bytes of its files.
        times: Seconds a sample, the mean of each turn.
        taken: How many of the draws have been read in those.
    """

    name: str
    samples: DrawnSamples
    disk: int
    times: list[float] = field(default_factory=list)
    taken: int = 0

    def take_turn(self, seconds: float, most: int) -> None:
        """Reads on for some time, one sample at least.

        Args:
            seconds: How long.
            most: Samples, at most.
        """
        start = now = time.perf_counter()
        count = 0
        while count < max(1, most) and (count == 0 or now - start < seconds):
            self.samples[(self.taken + count) % len(self.samples)]
            count += 1
            now = time.perf_counter()
        self.taken += count
        self.times.append((now - start) / count)


def check_equal(readers: Sequence[Reader], count: int) -> None:
    """Compares the readers' first samples with the first reader's, bit by bit.

    Args:
        readers: The readers.
        count: Samples to compare.

    Raises:
        KTDNError: If a sample differs.
    """
    for number in tqdm(range(count), "comparing", unit="sample", disable=None, leave=False):
        first = readers[0].samples[number]
        for reader in readers[1:]:
            sample = reader.samples[number]
            for side, key in (("hazy", "lq"), ("clear", "gt")):
                if not torch.equal(sample[key], first[key]):
                    raise KTDNError(
                        f"bench: '{reader.name}' and '{readers[0].name}' give different samples "
                        f"({side}, sample {number}); speeds of unequal work are not compared"
                    )


class _EndlessBatches:
    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[list[int]]:
        start = 0
        while True:
            yield [(start + number) % self.length for number in range(BATCH_SIZE)]
            start += BATCH_SIZE


def read_with_workers(samples: DrawnSamples, workers: int, seconds: float) -> float:
    """Reads batches through torch's data loader, as a training does.

    Args:
        samples: What to read.
        workers: Processes that read.
        seconds: How long to measure at least; whole rounds, a batch of each worker, count.

    Returns:
        Samples in a second.
    """
    loader: DataLoader = DataLoader(
        samples,
        batch_sampler=_EndlessBatches(len(samples)),
        num_workers=workers,
        worker_init_fn=_use_one_thread,
    )
    batches = iter(loader)
    # The workers start, and what they read ahead before anything is timed is used up.
    for _ in range(2 * workers):
        next(batches)
    start = now = time.perf_counter()
    count = 0
    while count == 0 or now - start < seconds:
        for _ in range(workers):
            next(batches)
        count += workers * BATCH_SIZE
        now = time.perf_counter()
    return count / (now - start)


def _use_one_thread(_: int) -> None:
    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
