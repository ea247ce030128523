"""Which sample is trained on when, and with which randomness: both follow from a seed alone.

Nothing depends on what a process or a data worker did before, so a training that was cut off goes
on exactly where it was, however many workers read its data.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

_ORDER, _SAMPLE, _ITERATION = range(3)  # streams of random numbers that must not be the same


class SampleDraw(NamedTuple):
    """One use of one sample: the epoch, counted from 0, and the sample's index."""

    epoch: int
    sample: int


class TrainingOrder(Sampler[list[SampleDraw]]):
    """Endless batches of one process: pass after pass over the dataset, each reshuffled.

    All processes together take the samples one after another, so their number does not change
    which samples make an iteration, as long as their batches add up to the same size. A batch goes
    on in the next pass where a pass runs out: nothing is dropped.

    Args:
        length: Samples in the dataset, at least 1.
        batch_size: Samples in a batch of one process.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes.
        start: Samples that all processes together have taken before.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        """Returns the batches, without end."""
        current, order = -1, np.empty(0, np.int64)
        position = self.start + self.rank
        while True:
            batch = []
            for _ in range(self.batch_size):
                epoch, place = divmod(position, self.length)
                if epoch != current:
                    current, order = epoch, self._shuffled(epoch)
                batch.append(SampleDraw(epoch, int(order[place])))
                position += self.world_size
            yield batch

    def _shuffled(self, epoch: int) -> Any:
        return np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.length)


class SeededDataset(Dataset):
    """A dataset whose random numbers follow from the seed, the pass and the sample's index.

    Args:
        dataset: A dataset that draws from ``random``, ``numpy.random`` or torch's global generator.
        seed: The seed.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, draw: SampleDraw) -> Any:
        """Returns the sample of a :class:`SampleDraw`."""
        seed_generators(self.seed, _SAMPLE, draw.epoch, draw.sample)
        return self.dataset[draw.sample]

    def __len__(self) -> int:
        return len(self.dataset)


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """Seeds what a training step draws (dropout, stochastic depth), apart from the data's."""
    seed_generators(seed, _ITERATION, iteration, rank)


def seed_generators(*words: int) -> None:
    """Seeds ``random``, ``numpy.random`` and torch (CPU and CUDA) from non-negative integers."""
    # Not the integers' sum, as is the habit: sample 3 of seed 1 would repeat sample 2 of seed 2.
    state = np.random.SeedSequence(words).generate_state(4, np.uint32)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))
    # Not torch.manual_seed, which keeps a whole traceback for a GPU that is not in use.
    seed = int(state[2]) << 31 | int(state[3]) >> 1
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
