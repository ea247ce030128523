"""Choosing how to cut a photograph into stripes so that its run fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ktdn_plugin.archs.ktdn_arch import MULTIPLE
from ktdn_plugin.inference.engine import CELL, Engine, Heights
from ktdn_plugin.inference.rehearsal import metering, without_content
from ktdn_plugin.inference.stripes import Rows, skipping_middle_stripes

Try = TypeVar("Try", bound=Hashable)

_Heights = tuple[int | None, int | None, int | None]
"""Of the encoder's three parts."""

# Tried in order. Lower encoder stripes compute more rows twice.
ENCODER = (
    (None, None, None),
    (1024, None, None),
    (512, 1024, None),
    (256, 512, 1024),
    (256, 256, 512),
    (128, 256, 512),
    (64, 128, 512),
    (32, 64, 256),
)
# Of the second and third part, where the first is computed again for each stripe.
RECOMPUTING = ((128, 512), (64, 256))
# On a CPU low stripes stay in cache; a GPU needs a lot of work at once.
DECODER_ON_CPU = (2 * CELL, CELL)
DECODER = (None, 32 * CELL, 16 * CELL, 8 * CELL, 4 * CELL, 2 * CELL, CELL)

# What the meter misses: small tensors, and memory that libraries keep for themselves.
SHARE = 1.03
CONSTANT = 24 * 2**20


class Plan(NamedTuple):
    """How to run.

    Attributes:
        heights: Stripe heights.
        peak: Bytes that the run takes beyond the network and the images.
    """

    heights: Heights
    peak: int


class Planner:
    """Plans runs of a network, caching what it finds out about each size.

    Args:
        engine: The network.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._twin: Engine | None = None
        self._known: dict[tuple[int, int, int], _Size] = {}

    def plan(self, count: int, size: tuple[int, int], budget: int | None) -> Plan:
        """Plans a run.

        Args:
            count: Number of images at once.
            size: Their padded height and width.
            budget: Bytes that the run may take.

        Returns:
            The fastest plan that fits; if none does, the one with the lowest peak, which the
            caller must compare with the budget.
        """
        key = (count, *size)
        if budget and key not in self._known:
            # Each size takes a rehearsal of up to a second; sizes that are nearly the same share
            # one of a size that is larger than all of them.
            above = (_round_up(size[0]), _round_up(size[1]))
            plan = self._size(count, above).plan(budget, bounded=True)
            if plan is not None:
                return plan
        plan = self._size(count, size).plan(budget)
        assert plan is not None
        return plan

    def _size(self, count: int, size: tuple[int, int]) -> _Size:
        key = (count, *size)
        known = self._known.get(key)
        if known is None:
            # When all sizes differ, caching gains nothing.
            if len(self._known) >= 64:
                self._known.clear()
            known = self._known[key] = _Size(self, count, size)
        return known

    @property
    def engine(self) -> Engine:
        """The network."""
        return self._engine

    @property
    def twin(self) -> Engine:
        """A twin of the network on the meta device."""
        if self._twin is None:
            self._twin = without_content(self._engine)
        return self._twin


class _Size:
    """Memory needed by runs of one size."""

    def __init__(self, planner: Planner, count: int, size: tuple[int, int]) -> None:
        self._planner = planner
        self._count = count
        self._size = size
        self._encoded: dict[_Heights, int] = {}
        self._decoded: dict[int | None, int] = {}
        self._recomputed: dict[Heights, int] = {}

    def plan(self, budget: int | None, bounded: bool = False) -> Plan | None:
        """Plans a run; see :meth:`Planner.plan`.

        Args:
            budget: Bytes that the run may take.
            bounded: Whether the plan is for a smaller size, whose peaks are not known: only the
                fastest way is tried, and None returned if it does not fit.
        """
        if bounded:
            encoder, decoder = next(self._encoders()), next(self._decoders())
            peak = max(self._encode(encoder), self._decode(decoder))
            fits = budget is None or peak <= budget
            return Plan(_join(encoder, decoder), peak) if fits else None
        encoder = _first_that_fits(self._encoders(), self._encode, budget)
        decoder = _first_that_fits(self._decoders(), self._decode, budget)
        held = Plan(_join(encoder, decoder), max(self._encode(encoder), self._decode(decoder)))
        if budget is None or held.peak <= budget:
            return held
        others = list(self._recomputing())
        if not others:
            return held
        best = _first_that_fits(others, self._recompute, budget)
        return min(held, Plan(best, self._recompute(best)), key=lambda plan: plan.peak)

    def _encoders(self) -> Iterator[_Heights]:
        yield ENCODER[0]
        for stage1, stage2, stage3 in ENCODER[1:]:
            yield self._cut(0, stage1), self._cut(1, stage2), self._cut(2, stage3)

    def _recomputing(self) -> Iterator[Heights]:
        engine = self._planner.engine
        if engine.halo(0) is None or engine.halo(1) is None:
            return
        for heights in RECOMPUTING:
            stage2, stage3 = self._cut(1, heights[0]), self._cut(2, heights[1])
            if stage2 is not None:
                yield Heights(None, stage2, CELL, stage3, recomputes=True)

    def _cut(self, number: int, height: int | None) -> int | None:
        """Returns the height of a part's stripes, None if it is run whole."""
        # A global part cannot be cut; its halo is determined only now.
        is_cut = self._is_cut(height) and self._planner.engine.halo(number) is not None
        return height if is_cut else None

    def _decoders(self) -> Iterator[int | None]:
        on_cpu = self._planner.engine.mean.device.type == "cpu"
        heights: tuple[int | None, ...] = DECODER_ON_CPU if on_cpu else DECODER
        return (height for height in heights if height is None or self._is_cut(height) or on_cpu)

    def _is_cut(self, height: int | None) -> bool:
        return height is not None and height < self._size[0]

    def _encode(self, heights: _Heights) -> int:
        if heights not in self._encoded:
            twin = self._planner.twin  # created outside the meter, which would count its weights
            with skipping_middle_stripes(), metering() as meter:
                self._rehearse_encoder(twin, _join(heights, None))
            self._encoded[heights] = _with_margin(meter.peak)
        return self._encoded[heights]

    def _decode(self, height: int | None) -> int:
        if height not in self._decoded:
            twin = self._planner.twin
            with skipping_middle_stripes(), metering() as meter:
                features = self._rehearse_encoder(twin, Heights())
                meter.peak = 0
                twin.decode(*features, self._image, lambda *rows: None, height)
            self._decoded[height] = _with_margin(meter.peak)
        return self._decoded[height]

    def _recompute(self, heights: Heights) -> int:
        if heights not in self._recomputed:
            twin = self._planner.twin
            twin.adopt_halos(self._planner.engine)
            with skipping_middle_stripes(), metering() as meter:
                twin.run(self._image, self._size, lambda *rows: None, heights)
            self._recomputed[heights] = _with_margin(meter.peak)
        return self._recomputed[heights]

    def _rehearse_encoder(self, twin: Engine, heights: Heights) -> tuple[Rows, Rows, Tensor]:
        twin.adopt_halos(self._planner.engine)
        return twin.encode(self._image, self._size, heights)

    def _image(self, top: int, bottom: int) -> Tensor:
        return torch.empty(self._count, 3, bottom - top, self._size[1], device="meta")


def _join(encoder: _Heights, decoder: int | None) -> Heights:
    stage1, stage2, stage3 = encoder
    return Heights(stage1, stage2, decoder, stage3)


def _round_up(side: int) -> int:
    """Returns a side that at most an eighth is added to, as a multiple of what is padded to."""
    step = max(MULTIPLE, 2 ** (side.bit_length() - 4))
    return -(-side // step) * step


def _first_that_fits(
    tries: Iterable[Try], peak_of: Callable[[Try], int], budget: int | None
) -> Try:
    """Returns the first candidate whose peak fits, or the one with the lowest peak."""
    peaks: dict[Try, int] = {}
    for one in tries:
        peaks[one] = peak_of(one)
        if budget is None or peaks[one] <= budget:
            return one
    return min(peaks, key=peaks.__getitem__)


def _with_margin(peak: int) -> int:
    return int(peak * SHARE) + CONSTANT
