"""``ktdn bench train``: a training step of the student, the plain way and ours, on this machine.

Every variant takes the same steps from the same weights, in a process of its own. On a CPU the
processes stay alive and take their steps in turn, so that whatever else the machine does hits all
alike; only one computes at a time. On a GPU, or where memory does not suffice for all of them, they
run one after another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ktdn_plugin.bench.machine import describe_machine
from ktdn_plugin.bench.process import WorkerError
from ktdn_plugin.bench.table import Row, format_table
from ktdn_plugin.bench.variants import MINIMUM_SIZE, PLAIN, variant_names
from ktdn_plugin.bench.worker import Answer, Job, Worker
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.inference.devices import find_device
from ktdn_plugin.system_memory import available

BATCH_SIZES = {"cpu": 2, "cuda": 4}
MEMORY_MARGIN = 1.2


def run_bench(
    encoder: str = "res2net101d",
    batch_size: int | None = None,
    size: int = 256,
    steps: int = 5,
    warmup: int = 2,
    device: str = "auto",
    variants: Sequence[str] | None = None,
    options: Path | None = None,
    seed: int = 0,
) -> None:
    """Measures a training step, and prints a table.

    Args:
        encoder: The networks' timm backbone.
        batch_size: Images in a batch; by default 2 on a CPU, 4 on a GPU.
        size: Height and width of an image.
        steps: Timed steps of each variant; the median counts.
        warmup: Steps before them, at least one.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``.
        variants: Names of variants, by default all that the device can run; ``plain``, which the
            others are compared with, always comes along.
        options: Options file for ``ktdn train``: also measure how long a training waits for the
            data that it names.
        seed: Seed of weights and images.

    Raises:
        KTDNError: If an argument is wrong, or, after the table, if a variant could not be measured.
    """
    try:
        place = find_device(device, tuple(BATCH_SIZES))
    except KTDNError as error:
        raise KTDNError(f"bench: {error}") from error
    if batch_size is None:
        batch_size = BATCH_SIZES[place.type]
    names = _check(batch_size, size, steps, warmup, variants, place)
    if options is not None:
        # Wrong options are told at once, not after minutes of measuring.
        from ktdn_plugin.basicsr.data_share import load_training_options

        load_training_options(options, place, seed)
    for line in describe_machine(place):
        print_lines(line)
    print_lines(
        f"step   {encoder}, batch {batch_size}, {size} x {size}, median of {steps} steps", ""
    )
    job = Job(PLAIN, encoder, batch_size, size, str(place), seed)
    rows = measure_variants(job, names, steps, warmup)
    print_lines(*format_table(rows))
    if options is not None:
        print_lines("", _data_share(options, encoder, place, steps, warmup, seed))
    failed = [row.variant for row in rows if row.error is not None]
    if failed:
        raise KTDNError(
            f"bench: {len(failed)} of {len(rows)} variants could not be measured "
            f"({', '.join(failed)}); the table says why"
        )


def _check(
    batch_size: int,
    size: int,
    steps: int,
    warmup: int,
    variants: Sequence[str] | None,
    device: torch.device,
) -> list[str]:
    for what, value, least in (
        ("batch size", batch_size, 1),
        ("size", size, MINIMUM_SIZE),
        ("steps", steps, 1),
        ("warmup", warmup, 1),
    ):
        if value < least:
            raise KTDNError(f"bench: {what} is {value}; it must be at least {least}")
    known = variant_names(device)
    if variants is None:
        return known
    for name in variants:
        if name not in known:
            raise KTDNError(
                f"bench: there is no variant '{name}' on {device.type}"
                f"{did_you_mean(name, known)} (there are {', '.join(known)})"
            )
    return [name for name in known if name == PLAIN or name in variants]


def measure_variants(job: Job, names: Sequence[str], steps: int, warmup: int) -> list[Row]:
    """Measures variants, and shows a progress bar.

    Args:
        job: What to run; its variant does not matter.
        names: Variants of :func:`~ktdn_plugin.bench.variants.variant_names`, ``plain`` first.
        steps: Timed steps of each.
        warmup: Steps of each before them.

    Returns:
        A row for each variant, also for one that failed.

    Raises:
        KTDNError: If the plain step fails: there is nothing to compare with then.
    """
    with (
        contextlib.ExitStack() as stack,
        tqdm(total=len(names) * (steps + warmup), unit="step", disable=None) as bar,
    ):
        runs = [_Run(replace(job, variant=name), bar, steps + warmup) for name in names]
        for run in runs:
            stack.callback(run.close)
        plain = runs[0]
        plain.warm_up(warmup)
        _raise_if_failed(plain.row)
        together = job.device == "cpu" and _fits(plain.answer, len(runs))
        for group in [runs] if together else [[run] for run in runs]:
            for run in group:
                if run is not plain:
                    run.warm_up(warmup)
            for _ in range(steps):
                for run in group:
                    run.step(timed=True)
            for run in group:
                run.close()
            _raise_if_failed(plain.row)
    return [run.row for run in runs]


def _raise_if_failed(plain: Row) -> None:
    if plain.error is not None:
        raise KTDNError(f"bench: the plain step failed: {plain.error}")


def _fits(plain: Answer | None, count: int) -> bool:
    """Whether so many processes like the plain one can be kept alive, one of them at its peak."""
    free = available()
    if plain is None or plain.peak is None or plain.resident is None or free is None:
        return False
    # Its own is taken from the free memory already; peak does not count what imports take.
    return MEMORY_MARGIN * ((count - 1) * plain.resident + plain.peak) < free


class _Run:
    """One variant under way: its worker, and the row that it fills."""

    def __init__(self, job: Job, bar: tqdm, steps: int) -> None:
        self.job = job
        self.row = Row(job.variant, job.batch_size)
        self.answer: Answer | None = None
        self._bar = bar
        self._left = steps
        self._worker: Worker | None = None

    def warm_up(self, steps: int) -> None:
        for _ in range(steps):
            self.step(timed=False)

    def step(self, timed: bool) -> None:
        if self.row.error is not None:
            return
        waits = self._worker is None
        self._bar.set_description(self.row.variant + (": setting up" if waits else ""))
        try:
            if self._worker is None:
                self._worker = Worker(self.job)
            answer = self._worker.step()
        except WorkerError as error:
            self.row.error = str(error)
            self._advance(self._left)
            self.close()
            return
        if self.answer is None:
            self.row.losses = answer.losses
        self.answer = answer
        if timed:
            self.row.times.append(answer.seconds)
            if answer.peak is not None:
                self.row.peak = max(self.row.peak or 0, answer.peak)
        self._advance(1)

    def _advance(self, steps: int) -> None:
        self._left -= steps
        self._bar.update(steps)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _data_share(
    options: Path, encoder: str, device: torch.device, steps: int, warmup: int, seed: int
) -> str:
    # Imported late: it reads data through BasicSR, which nobody needs for the table.
    from ktdn_plugin.basicsr.data_share import measure_data_share

    share = measure_data_share(options, encoder, device, steps, warmup, seed)
    n, _, height, width = share.shape
    return (
        f"data   {options}: {share.waiting / share.total:.1%} of the time waiting for data "
        f"({1000 * share.waiting / steps:.1f} of {1000 * share.total / steps:.1f} ms a step; ours, "
        f"{encoder}, batch {n}, {height} x {width})"
    )
