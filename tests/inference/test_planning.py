"""Plans: what is chosen for how much memory, and what the rehearsal counts."""

from __future__ import annotations

import copy
import functools
from contextlib import nullcontext

import pytest
import torch
from golden_rule import draw_weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ktdn_plugin import KTDN
from ktdn_plugin.inference.engine import CELL, Engine, Heights
from ktdn_plugin.inference.frames import Frames
from ktdn_plugin.inference.planning import CONSTANT, Planner
from ktdn_plugin.inference.rehearsal import metering, without_content
from ktdn_plugin.inference.stripes import skipping_middle_stripes

CPU = torch.device("cpu")
MB = 2**20


@functools.cache
def planner(
    encoder: str = "test_resnet", head: str = "tanh", widths: tuple[int, ...] | None = None
) -> Planner:
    network = KTDN(encoder, head=head, widths=widths).eval()
    draw_weights(network, ("bn2.weight",))
    return Planner(Engine(network, CPU, torch.float32))


def test_without_a_bound_the_encoder_runs_whole() -> None:
    plan = planner().plan(1, (480, 640), None)
    assert (plan.heights.stage1, plan.heights.stage2) == (None, None)
    assert plan == planner().plan(1, (480, 640), 10**12)


def test_without_memory_it_is_the_plan_that_takes_least() -> None:
    least = planner().plan(1, (1200, 1600), 0)
    assert least.peak > 0
    assert least.heights.stage2 is not None
    assert least.heights.recomputes
    assert least == planner().plan(1, (1200, 1600), -(10**9))
    fastest = planner().plan(1, (1200, 1600), None)
    for share in (0, 0.2, 0.5, 0.9, 1):
        budget = round(least.peak + share * (fastest.peak - least.peak))
        plan = planner().plan(1, (1200, 1600), budget)
        assert least.peak <= plan.peak <= budget


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 3), st.integers(0, 200))
@example(2, 2, 1, 0)
def test_every_plan_can_be_run(rows: int, columns: int, n: int, budget: int) -> None:
    size = 16 * rows, 16 * columns
    plan = planner().plan(n, size, budget * MB)
    stage1, stage2, decoder = plan.heights.stage1, plan.heights.stage2, plan.heights.decoder
    assert stage1 is None or (stage1 % 4 == 0 and 0 < stage1 < size[0])
    assert stage2 is None or (stage2 % 8 == 0 and 0 < stage2 < size[0])
    assert decoder is None or decoder % CELL == 0
    least = planner().plan(n, size, 0)
    assert plan.peak <= budget * MB or plan == least
    assert CONSTANT < least.peak <= planner().plan(n, size, None).peak


def test_more_pixels_and_more_images_take_more() -> None:
    peaks = [planner().plan(*what, 0).peak for what in ((1, (480, 640)), (2, (480, 640)))]
    assert peaks == sorted(set(peaks))
    peaks = [planner().plan(1, (480, width), 0).peak for width in (320, 640, 1280)]
    assert peaks == sorted(set(peaks))


def test_what_looks_at_the_whole_image_is_not_cut() -> None:
    plan = planner("ghostnet_050").plan(1, (480, 640), 0)
    assert plan.heights.stage1 is not None
    assert plan.heights.stage2 is plan.heights.stage3 is None
    assert plan.heights.decoder == CELL


def test_what_was_planned_before_changes_nothing() -> None:
    first = Planner(copy.deepcopy(planner().engine)).plan(1, (64, 96), None)
    other = Planner(copy.deepcopy(planner().engine))
    other.plan(2, (480, 640), 0)
    assert other.plan(1, (64, 96), None) == first
    # Nothing of the network itself is counted, whenever its twin was made.
    weights = sum(parameter.nbytes for parameter in planner().engine.parameters())
    assert first.peak < CONSTANT + weights


class Live(TorchDispatchMode):
    """Counts real tensors as the meter counts empty ones, by the memory that they point to.

    Args:
        others: Tensors whose memory is not counted.
    """

    def __init__(self, *others: Tensor) -> None:
        super().__init__()
        self.peak = 0
        self._others = {tensor.untyped_storage().data_ptr() for tensor in others}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._others:
                    self._alive[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self._alive.values()))
        return result


@pytest.mark.parametrize(
    ("encoder", "head", "widths"),
    [
        ("test_resnet", "tanh", None),
        ("test_resnet", "affine", None),
        ("test_resnet", "affine", (160, 64, 54)),
        ("test_convnext", "tanh", None),
        ("test_efficientnet", "tanh", None),
    ],
)
@torch.no_grad()
def test_the_rehearsal_counts_no_less_than_the_run_has(
    encoder: str, head: str, widths: tuple[int, ...] | None
) -> None:
    engine = planner(encoder, head, widths).engine
    size = (192, 2048)
    frames = Frames(torch.rand(1, 3, *size), CPU)
    cut = engine.halo(0) is not None
    for stage1, decoder, recomputes in (
        (None, None, False),
        (None, CELL, False),
        (64, 2 * CELL, False),
        (None, CELL, True),
    ):
        heights = Heights(stage1 if cut else None, None, decoder, None, recomputes and cut)
        twin = without_content(engine)
        twin.adopt_halos(engine)
        with metering() as meter:
            twin.run(
                lambda top, bottom: torch.empty(1, 3, bottom - top, size[1], device="meta"),
                size,
                lambda *_: None,
                heights,
            )
        with Live(frames.images, frames.result) as live:
            engine.run(frames.read, frames.size, frames.write, heights)
        # Beyond what the run has, the meter counts what a library does with a weight.
        assert live.peak <= meter.peak, heights
        assert meter.peak <= 1.25 * live.peak, heights


@pytest.mark.parametrize(
    "heights",
    [Heights(64, 64, CELL, 64), Heights(None, 32, CELL, 64, recomputes=True)],
    ids=["held", "recomputed"],
)
def test_stripes_that_a_rehearsal_skips_take_no_more(heights: Heights) -> None:
    engine = planner().engine
    assert all(engine.halo(number) is not None for number in range(3))
    peaks = []
    for skips in (False, True):
        twin = without_content(engine)
        twin.adopt_halos(engine)
        with skipping_middle_stripes() if skips else nullcontext(), metering() as meter:
            twin.run(
                lambda top, bottom: torch.empty(1, 3, bottom - top, 320, device="meta"),
                (800, 320),
                lambda *_: None,
                heights,
            )
        peaks.append(meter.peak)
    assert peaks[0] == peaks[1]


def test_a_large_photograph_takes_less_where_features_are_computed_again() -> None:
    size = (1600, 2048)
    least = planner().plan(1, size, 0)
    assert least.heights.recomputes
    sized = planner()._size(1, size)
    held = max(sized._encode((32, 64, 256)), sized._decode(CELL))
    assert least.peak < 0.8 * held
    assert not planner().plan(1, size, held * 2).heights.recomputes


def test_a_twin_has_shapes_alone() -> None:
    engine = planner().engine
    twin = without_content(engine)
    assert {parameter.device.type for parameter in twin.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in twin.buffers()} == {"meta"}
    assert [p.shape for p in twin.parameters()] == [p.shape for p in engine.parameters()]
    assert {parameter.device.type for parameter in engine.parameters()} == {"cpu"}
    assert twin.parts is not None
    assert twin.parts[0][0] is next(iter(twin.encoder.body.children()))


def test_the_meter_counts_what_is_alive_at_once() -> None:
    with metering() as meter:
        first = torch.empty(1000, device="meta")
        view = first[::2]
        second = first + 1
        assert meter.held() == meter.peak == 8000
        del first
        assert meter.held() == 8000  # the view holds it
        del view
        assert meter.held() == 4000
        second.mul_(2)
        third = torch.empty(500, dtype=torch.float16, device="meta")
        assert meter.held() == 5000
        assert meter.peak == 8000
    assert third.nbytes == 1000


def test_the_meter_counts_a_convolutions_weights_twice() -> None:
    convolution = nn.Conv2d(100, 100, 3, padding=1, device="meta")
    weight = convolution.weight.nbytes
    image = torch.empty(1, 100, 4, 4, device="meta")
    with metering() as meter:
        result = convolution(image)
    assert meter.peak == weight + result.nbytes
