"""``ktdn bench dehaze``: dehazing an image the plain way and ours, on this machine.

Every way gets the same weights and the same image, in a process of its own. On a CPU the runs of
all ways take turns, so that whatever else the machine does hits all alike; only one computes at a
time. Where the plain way does not fit into the memory, ours without stripes is the reference.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from ktdn_plugin.archs import KTDN
from ktdn_plugin.bench.costs import parse_size
from ktdn_plugin.bench.dehaze_table import DehazeRow, format_rows
from ktdn_plugin.bench.dehaze_worker import LEAST, PLAIN, WHOLE, DehazeJob, DehazeWorker
from ktdn_plugin.bench.machine import describe_machine
from ktdn_plugin.bench.process import WorkerError
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.devices import PRECISIONS, find_device, find_precision
from ktdn_plugin.inference.memory import Memory
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory
from ktdn_plugin.inference.rehearsal import metering, without_content

Size = tuple[int, int]
"""Width and height, as people write them."""


def run_bench_dehaze(
    checkpoint: str | Path | None = None,
    encoder: str = "res2net101d",
    sizes: Sequence[str] = ("1600x1200",),
    precisions: Sequence[str] | None = None,
    max_memory: Sequence[str] = (),
    beside: Sequence[str] = (),
    steps: int = 3,
    warmup: int = 1,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Measures dehazing, and prints a table.

    Args:
        checkpoint: A trained network; by default weights are drawn.
        encoder: The timm backbone for drawn weights.
        sizes: The images' sizes, such as ``1600x1200``.
        precisions: Precisions of ours, by default all that the device has.
        max_memory: Bounds; each is measured for each precision, beside the run without one.
            ``least`` is the least that does.
        beside: Other trained networks, names or files, to measure in each precision as well.
        steps: Timed runs of each way; the median counts.
        warmup: Runs before them, none or more.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        seed: Seed of drawn weights.

    Raises:
        KTDNError: If an argument is wrong, or, after the table, if one of ours could not be
            measured.
    """
    try:
        place = find_device(device, ("cpu", "cuda"))
        names = _precisions(precisions, place)
    except KTDNError as error:
        raise KTDNError(f"bench: {error}") from error
    if steps < 1 or warmup < 0:
        raise KTDNError(f"bench: steps is {steps} and warmup {warmup}; at least 1 and 0")
    parsed = [parse_size(size) for size in sizes]
    for bound in max_memory:
        if bound != LEAST:
            parse_memory(bound)
    network = KTDN(encoder) if checkpoint is None else load_network(checkpoint)
    for other in beside:
        load_network(other)  # what cannot be read is said before anything is measured
    for line in describe_machine(place):
        print_lines(line)
    drawn = f"{encoder}, drawn weights" if checkpoint is None else str(checkpoint)
    print_lines(
        f"network  {drawn}; median of {steps} runs after {warmup}; 8-bit image in and out", ""
    )
    rows: list[DehazeRow] = []
    ways = [Way(name, name, bound) for name in names for bound in (None, *max_memory)]
    ways += [Way(f"{other}, {name}", name, None, other) for other in beside for name in names]
    total = len(parsed) * (1 + len(ways)) * (steps + warmup)
    with tqdm(total=total, unit="run", disable=None) as bar:
        for size in parsed:
            needed = plain_peak(network, size)
            job = DehazeJob(
                way=PLAIN,
                checkpoint=None if checkpoint is None else str(checkpoint),
                encoder=encoder,
                height=size[1],
                width=size[0],
                device=str(place),
                max_memory=None,
                seed=seed,
                reference="",
                writes=True,
            )
            rows += _measure_size(job, ways, needed, steps, warmup, bar)
    print_lines(*format_rows(rows))
    print_lines("", *_explanation(place).splitlines())
    failed = [row for row in rows if row.error is not None and row.way != PLAIN]
    if failed:
        raise KTDNError(
            f"bench: {len(failed)} of {len(rows)} ways could not be measured; the table says why"
        )


class Way(NamedTuple):
    """A way that is measured beside the plain one.

    Attributes:
        name: What its row is called.
        precision: The precision.
        bound: Its memory bound.
        other: Another network than the others'.
    """

    name: str
    precision: str
    bound: str | None
    other: str | None = None


def _explanation(device: torch.device) -> str:
    counted = (
        "tensors on the GPU" if device.type == "cuda" else "the whole process, its libraries too"
    )
    return (
        f"peak: {counted}. speed, memory: in relation to the first row of the size.\n"
        "off, PSNR: largest difference from its result, of values in [0, 1], and PSNR of the two, "
        "before rounding to 8 bit."
    )


def _precisions(asked: Sequence[str] | None, device: torch.device) -> list[str]:
    if asked is not None:
        for name in asked:
            find_precision(name, device)
        return list(asked)
    there = []
    for name in PRECISIONS:
        with contextlib.suppress(KTDNError):
            find_precision(name, device)
            there.append(name)
    return there


def plain_peak(network: KTDN, size: Size) -> int:
    """Returns the bytes that the network's plain way takes for an image, beyond its weights."""
    with metering() as meter:
        without_content(network.eval())(torch.empty(1, 3, size[1], size[0], device="meta"))
    return meter.peak


def _measure_size(
    job: DehazeJob,
    ways: Sequence[Way],
    needed: int,
    steps: int,
    warmup: int,
    bar: tqdm,
) -> list[DehazeRow]:
    """Measures all ways on one size, and gives their rows."""
    size = (job.width, job.height)
    rows = [DehazeRow(size, PLAIN, is_baseline=True)]
    device = torch.device(job.device)
    free = Memory(device, None).free()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        job = _changed(job, reference=str(Path(folder) / "reference"))
        baseline = _Run(rows[0], job, bar, steps + warmup)
        stack.callback(baseline.close)
        if free is not None and needed > free:
            rows[0].error = (
                f"not run: takes {format_memory(needed)} beyond its weights, "
                f"{format_memory(max(free, 1))} are free"
            )
            rows.append(DehazeRow(size, WHOLE, is_baseline=True))
            baseline = _Run(rows[1], _changed(job, way=WHOLE), bar, steps + warmup)
            stack.callback(baseline.close)
        runs = [baseline]
        for way in ways:
            rows.append(DehazeRow(size, way.name))
            changed = _changed(job, way=way.precision, max_memory=way.bound, writes=False)
            if way.other is not None:
                changed = _changed(changed, checkpoint=way.other, reference="")
            runs.append(_Run(rows[-1], changed, bar, steps + warmup))
            stack.callback(runs[-1].close)
        # Weights and libraries of all at once are little beside one run of a large image; what
        # the ways without a bound keep of their runs is not.
        together = device.type == "cpu" and free is not None and len(runs) * needed < free
        for group in [runs] if together else [[run] for run in runs]:
            for run in group:
                run.run(warmup, timed=False)
            for _ in range(steps):
                for run in group:
                    run.run(1, timed=True)
            for run in group:
                run.close()
    return rows


def _changed(job: DehazeJob, **changes: object) -> DehazeJob:
    return DehazeJob(**{**vars(job), **changes})


class _Run:
    """One way under way: its worker, and the row that it fills."""

    def __init__(self, row: DehazeRow, job: DehazeJob, bar: tqdm, left: int) -> None:
        self._row = row
        self._job = job
        self._bar = bar
        self._left = left
        self._worker: DehazeWorker | None = None

    def run(self, times: int, timed: bool) -> None:
        for _ in range(times):
            if self._row.error is not None:
                break
            self._bar.set_description(f"{self._job.width} x {self._job.height} {self._row.way}")
            try:
                if self._worker is None:
                    self._worker = DehazeWorker(self._job)
                answer = self._worker.run()
            except WorkerError as error:
                self._row.error = f"failed: {error}"
                break
            if timed:
                self._row.times.append(answer.seconds)
            if answer.peak is not None:
                self._row.peak = max(self._row.peak or 0, answer.peak)
            self._row.limit = answer.limit
            if answer.difference is not None:
                self._row.difference, self._row.psnr = answer.difference, answer.psnr
            self._left -= 1
            self._bar.update(1)

    def close(self) -> None:
        self._bar.update(self._left)
        self._left = 0
        if self._worker is not None:
            self._worker.close()
            self._worker = None
