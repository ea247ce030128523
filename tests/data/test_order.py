"""The order of samples and their randomness: from seed, pass and index alone."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from ktdn_plugin.data.order import SampleDraw, SeededDataset, TrainingOrder, seed_iteration


def draws(count: int, **arguments: int) -> list[SampleDraw]:
    batches = islice(TrainingOrder(**arguments), count)
    return [draw for batch in batches for draw in batch]


@given(length=st.integers(1, 30), batch=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_each_pass_has_each_sample_once(length: int, batch: int, seed: int) -> None:
    passes = 3
    taken = draws(-(-passes * length // batch), length=length, batch_size=batch, seed=seed)
    for epoch in range(passes):
        part = taken[epoch * length : (epoch + 1) * length]
        assert {draw.epoch for draw in part} == {epoch}
        assert sorted(draw.sample for draw in part) == list(range(length))


@given(
    length=st.integers(1, 30),
    share=st.integers(1, 5),
    processes=st.integers(1, 4),
    steps=st.integers(0, 12),
)
def test_processes_share_what_one_would_take(
    length: int, share: int, processes: int, steps: int
) -> None:
    whole = list(islice(TrainingOrder(length, share * processes, 3), steps))
    parts = [
        list(islice(TrainingOrder(length, share, 3, rank, processes), steps))
        for rank in range(processes)
    ]
    for step, batch in enumerate(whole):
        together = [draw for part in parts for draw in part[step]]
        assert sorted(together) == sorted(batch)


@given(length=st.integers(1, 30), batch=st.integers(1, 8), before=st.integers(0, 10))
def test_going_on_is_not_having_stopped(length: int, batch: int, before: int) -> None:
    whole = draws(before + 4, length=length, batch_size=batch, seed=1)
    rest = draws(4, length=length, batch_size=batch, seed=1, start=before * batch)
    assert whole[before * batch :] == rest


def test_seeds_and_passes_are_shuffled_differently() -> None:
    orders = {tuple(d.sample for d in draws(2, length=50, batch_size=50, seed=s)) for s in range(9)}
    assert len(orders) == 9
    both = draws(2, length=50, batch_size=50, seed=0)
    assert [d.sample for d in both[:50]] != [d.sample for d in both[50:]]


class Noise(Dataset):
    """Draws from every generator that a dataset may draw from."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> torch.Tensor:
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return torch.tensor([index, *drawn], dtype=torch.float64)


@pytest.mark.parametrize("workers", [1, 3])
def test_samples_do_not_depend_on_the_workers(workers: int) -> None:
    def read(count: int) -> torch.Tensor:
        order = TrainingOrder(7, 2, seed=5)
        loader = DataLoader(SeededDataset(Noise(), 5), batch_sampler=order, num_workers=count)
        return torch.cat(list(islice(loader, 9)))

    alone = read(0)
    assert torch.equal(alone, read(workers))
    # A sample of another pass, and of another seed, is drawn anew.
    assert len({tuple(row[1:].tolist()) for row in alone}) == len(alone)
    other = SeededDataset(Noise(), 6)[SampleDraw(0, 3)]
    assert not torch.equal(other, SeededDataset(Noise(), 5)[SampleDraw(0, 3)])


def test_iterations_and_processes_draw_differently() -> None:
    drawn = set()
    for iteration in range(3):
        for rank in range(3):
            seed_iteration(1, iteration, rank)
            drawn.add((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert len(drawn) == 9
    seed_iteration(1, 2, 2)
    assert random.random() in {row[0] for row in drawn}


def test_data_and_training_steps_do_not_draw_the_same_numbers() -> None:
    of_sample = SeededDataset(Noise(), 1)[SampleDraw(4, 2)][1:].tolist()
    seed_iteration(1, 4, 2)  # the same integers, for a step
    assert [random.random(), float(np.random.rand()), float(torch.rand(()))] != of_sample
