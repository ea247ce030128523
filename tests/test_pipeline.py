"""The pipeline: in order, within its room, on several devices, whatever fails."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pipeline import DevicePool, Pipeline, Task


class Item(Task):
    def __init__(self, number: int, cost: int = 0) -> None:
        super().__init__(cost)
        self.number = number
        self.steps: list[str] = []


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 4),
    st.integers(1, 3),
    st.lists(st.integers(0, 9), max_size=12),
    st.sampled_from([None, 1, 8, 20]),
    st.integers(0, 2**16),
)
def test_order_and_room(
    workers: int, devices: int, costs: list[int], room: int | None, seed: int
) -> None:
    draw, lock = random.Random(seed), threading.Lock()
    inside: dict[int, int] = {}
    most = [0, 0]  # bytes together, and the most of one

    def step(name: str, item: Item) -> None:
        with lock:
            if name == "read":
                inside[item.number] = item.cost
                if len(inside) > 1:
                    most[0] = max(most[0], sum(inside.values()))
            pause = draw.random() / 2000
        time.sleep(pause)
        item.steps.append(name)

    with Pipeline(workers, devices, room) as pipeline:
        done = []
        for item in pipeline.run(
            [Item(number, cost) for number, cost in enumerate(costs)],
            *((lambda item, name=name: step(name, item)) for name in ("read", "compute", "write")),
        ):
            del inside[item.number]
            done.append(item)
    assert [item.number for item in done] == list(range(len(costs)))
    assert all(item.steps == ["read", "compute", "write"] and item.error is None for item in done)
    if room is not None:  # beside what costs nothing, one may be larger
        assert most[0] <= max(room, max(costs, default=0))


def test_an_error_is_its_own_task_s() -> None:
    def compute(item: Item) -> None:
        if item.number == 2:
            raise ValueError("odd")

    written = []
    with Pipeline(3) as pipeline:
        items = pipeline.run(
            map(Item, range(5)), lambda _: None, compute, lambda item: written.append(item.number)
        )
        errors = [str(item.error) if item.error else None for item in items]
    assert errors == [None, None, "odd", None, None]
    assert sorted(written) == [0, 1, 3, 4]


def test_reading_and_writing_overlap_with_computing() -> None:
    met = threading.Barrier(3, timeout=20)  # broken unless all three are under way at once

    def stage(number: int):
        def run(item: Item) -> None:
            if item.number == number:
                met.wait()

        return run

    with Pipeline(2) as pipeline:
        items = list(pipeline.run(map(Item, range(6)), stage(4), stage(3), stage(2)))
    assert [item.error for item in items] == [None] * 6


def test_an_interrupt_ends_it_and_finishes_what_was_begun() -> None:
    begun, written = [], []

    def compute(item: Item) -> None:
        if item.number == 3:
            while not begun:
                time.sleep(0.01)
            raise KeyboardInterrupt

    def write(item: Item) -> None:
        begun.append(item.number)
        time.sleep(0.05)
        written.append(item.number)

    with pytest.raises(KeyboardInterrupt), Pipeline(2) as pipeline:
        list(pipeline.run(map(Item, range(100)), lambda _: None, compute, write))
    assert sorted(written) == sorted(begun)
    assert {0} <= set(written) <= {0, 1, 2}


def test_a_lost_device_s_image_goes_to_another_one() -> None:
    seen: dict[str, list[int]] = {"cuda:0": [], "cuda:1": []}

    def first(image: int) -> int:
        if image >= 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")
        seen["cuda:0"].append(image)
        return -image

    def second(image: int) -> int:
        seen["cuda:1"].append(image)
        return -image

    pool = DevicePool({"cuda:0": first, "cuda:1": second})
    assert [pool(image) for image in range(10)] == [-image for image in range(10)]
    assert sorted(seen["cuda:0"] + seen["cuda:1"]) == list(range(10))
    assert pool.lost == ["cuda:0 was lost (CUDA error: an illegal memory access was encountered)"]


def test_no_device_is_left() -> None:
    def broken(_: int) -> int:
        raise RuntimeError("CUDA error: unspecified launch failure")

    pool = DevicePool({"cuda:0": broken, "cuda:1": broken})
    for _ in range(2):
        with pytest.raises(KTDNError, match=r"no device is left: cuda:0 was lost .*; cuda:1 was"):
            pool(1)
    out_of_memory = DevicePool({"cuda:0": lambda _: (_ for _ in ()).throw(MemoryError())})
    with pytest.raises(MemoryError):
        out_of_memory(1)
    assert out_of_memory.lost == []
