"""Dehazer: limits, batches that do not fit, and what is said where memory runs out."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from tiny_dehazer import dehazer, network, photo
from torch import Tensor, nn

from ktdn_plugin import KTDNError
from ktdn_plugin.inference import Dehazer

GB = 10**9


def test_a_limit_may_be_set_and_lifted() -> None:
    one = Dehazer(network(), device="cpu", max_memory="100GB")
    assert one.max_memory == 100 * GB
    wanted = one(photo())
    one.max_memory = 1000
    with pytest.raises(KTDNError, match=r"110 x 75 pixels do not fit into max memory 1MB in"):
        one(photo())
    with pytest.raises(KTDNError, match="is not a memory size"):
        one.max_memory = "much"
    assert one.max_memory == 1000
    one.max_memory = None
    assert one.max_memory is None
    assert np.array_equal(one(photo()), wanted)


def test_a_batch_that_does_not_fit_runs_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Dehazer(network(), device="cpu")
    images = np.stack([photo()] * 6)
    wanted = one(images)
    sizes = []
    run = one._planner.engine.run

    def noted(image, size, emit, heights):
        sizes.append(len(image(0, 16)))
        run(image, size, emit, heights)

    monkeypatch.setattr(one._planner.engine, "run", noted)
    single, six = (one._planner.plan(n, (80, 112), 0).peak for n in (1, 6))
    assert single < six
    monkeypatch.setattr(one._memory, "free", lambda: (single + six) // 2)
    results = one(images)
    assert sizes == [1] * 6
    assert np.abs(results.astype(int) - wanted).max() <= 1
    tensors = one(torch.rand(2, 3, 40, 40))
    assert tensors.shape == (2, 3, 40, 40)


def test_too_little_free_memory_is_reported_without_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Dehazer(network(), device="cpu", precision="bf16")
    monkeypatch.setattr(one._memory, "free", lambda: 3 * 10**6)
    with pytest.raises(
        KTDNError,
        match=r"^110 x 75 pixels do not fit into the 3MB that may be taken on cpu in precision "
        r"bf16; \d\dMB is enough$",
    ):
        one(photo())


def test_needs() -> None:
    fast, least = dehazer().needs(1200, 1600)
    assert 0 < least < fast < 10 * GB
    assert dehazer().needs(1, 1)[1] < least
    with pytest.raises(KTDNError, match="there is no image of 5 x 0 pixels"):
        dehazer().needs(0, 5)


ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"),
    "CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 80 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "numpy": MemoryError("Unable to allocate 3.00 GiB for an array"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_out_of_memory_names_size_device_and_a_limit(error: Exception) -> None:
    one = Dehazer(network(), device="cpu")
    held, alive = one._memory.held(), []

    def runs_out(*_: object) -> None:
        left = torch.ones(2**28, dtype=torch.uint8)
        alive.append(weakref.ref(left))
        raise error

    assert one._planner.twin  # rehearsals run this copy
    run, one._planner.engine.run = one._planner.engine.run, runs_out
    with pytest.raises(
        KTDNError,
        match=r"^out of memory: 110 x 75 pixels on cpu in precision float32; give --max-memory "
        r"([\d.]+[MG]B) \(max_memory=\), the least that is enough, if that much is free$",
    ) as raised:
        one(photo())
    assert raised.value.__cause__ is error
    one._planner.engine.run = run
    words = str(raised.value).split()
    one.max_memory = words[words.index("--max-memory") + 1]
    # What the failed run had taken is not counted, nor kept while its error is looked at.
    assert one.max_memory < held + 2**27
    assert alive[0]() is None
    assert one(photo()).shape == photo().shape


def test_another_network_that_runs_out_of_memory() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(KTDNError, match=r"110 x 75 pixels on cpu .* use smaller images"):
        Dehazer(Greedy(), device="cpu")(photo())


def test_other_errors_are_not_taken_for_it() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Dehazer(Broken(), device="cpu")(photo())
