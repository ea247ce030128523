"""Compares ways of doing the same thing: their time, peak memory and results.

Each way has its own process, so that its peak memory can be told apart. The process
(``python -m ktdn_plugin.bench.ways MODULE JOB``) takes one step for each line that it reads, and
answers each with a line of JSON. It ends when its input does, so it never outlives the process that
started it.

On a CPU the processes stay alive and take their steps in turn, so that any other load on the
machine affects all alike; only one computes at a time. On a GPU, or if there is not enough memory
for all of them, they run one after another.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm import tqdm

from ktdn_plugin.errors import KTDNError, is_out_of_memory, out_of_memory_line
from ktdn_plugin.inference.memory_sizes import format_memory
from ktdn_plugin.system_memory import available, forget_peak, peak_resident, resident
from ktdn_plugin.text_tables import table_lines

LONGEST_REASON = 160
MEMORY_MARGIN = 1.2

Step = Callable[[], Callable[[], dict[str, Any]]]
"""What is timed. It returns a function that is called off the clock and returns the result.

A result may give as ``count`` how many images the step processed, one by default.
"""


@dataclass
class Way:
    """One way, and its measurements.

    Attributes:
        name: What the table calls it.
        job: Plain values, one of them ``device``: the arguments of the module's ``prepare``, which
            returns a :data:`Step`.
        times: Seconds per image of each timed step.
        peak: Most bytes that its process held in a timed step (before those, in the latest step);
            on a GPU, the most that tensors took. None if unknown.
        resident: Bytes that its process held after the latest step, None if unknown.
        result: What its first step returned.
        error: Why it was not measured, in one line. If already set, the way is not run.
    """

    name: str
    job: Mapping[str, Any]
    times: list[float] = field(default_factory=list)
    peak: int | None = None
    resident: int | None = None
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Median time per image."""
        return statistics.median(self.times)


def require_least(numbers: Mapping[str, tuple[int, int]]) -> None:
    """Refuses numbers that are too small.

    Args:
        numbers: A number and its minimum, by name.

    Raises:
        KTDNError: If one is too small.
    """
    for name, (number, least) in numbers.items():
        if number < least:
            raise KTDNError(f"bench: {name} is {number}; it must be at least {least}")


def baseline(ways: Sequence[Way]) -> Way | None:
    """Returns the first way that was measured, to compare the others with."""
    return next((way for way in ways if way.error is None), None)


def measure(module: str, ways: Sequence[Way], steps: int, warmup: int) -> None:
    """Measures ways, showing a progress bar.

    Args:
        module: The module whose ``prepare`` is called with each way's job.
        ways: The ways; the baseline first.
        steps: Timed steps per way.
        warmup: Steps per way before them.
    """
    todo = [way for way in ways if way.error is None]
    total = warmup + steps
    with (
        contextlib.ExitStack() as stack,
        tqdm(total=len(todo) * total, unit="step", disable=None, leave=False) as bar,
    ):
        runs = [stack.enter_context(_Run(module, way, bar, warmup, total)) for way in todo]
        runs[0].reach(1)
        together = todo[0].job["device"] == "cpu" and _fit_together(todo)
        for group in [runs] if together else [[run] for run in runs]:
            for number in range(1, total + 1):
                for run in group:
                    run.reach(number)
            for run in group:
                run.close()


def _fit_together(ways: Sequence[Way]) -> bool:
    """Returns whether all processes fit, one at its peak, if all need as much as the first."""
    first, free = ways[0], available()
    if first.peak is None or first.resident is None or free is None:
        return False
    # Its own is already missing from the free memory.
    needed = (len(ways) - 1) * first.resident + first.peak - first.resident
    return MEMORY_MARGIN * needed < free


def raise_if_failed(ways: Sequence[Way]) -> None:
    """Raises an error if a way was run and failed."""
    failed = [way.name for way in ways if (way.error or "").startswith("failed")]
    if failed:
        raise KTDNError(
            f"bench: {len(failed)} of {len(ways)} ways could not be measured "
            f"({', '.join(failed)}); the table shows why"
        )


def format_ways(
    ways: Sequence[Way],
    item: str = "image",
    extras: Mapping[str, Callable[[Way, Way], str]] | None = None,
) -> list[str]:
    """Formats ways as lines of a table; each is compared with the first that was measured.

    Args:
        ways: The ways.
        item: What a step processes.
        extras: Further columns: functions from a way and the baseline to the cell.
    """
    extras = extras or {}
    heads = ["way", f"ms/{item}", f"{item}s/s", "speed", "peak", "memory", *extras, ""]
    rows = [heads]
    base = baseline(ways)
    for way in ways:
        if base is None or way.error is not None:
            rows.append([way.name, *[""] * (len(heads) - 2), way.error or ""])
            continue
        peak = memory = "-"
        if way.peak is not None:
            peak = format_memory(way.peak)
            memory = f"{way.peak / base.peak:.2f}x" if base.peak else "-"
        rows.append(
            [
                way.name,
                f"{1000 * way.seconds:.2f}",
                f"{1 / way.seconds:.2f}",
                f"{base.seconds / way.seconds:.2f}x",
                peak,
                memory,
                *(cell(way, base) for cell in extras.values()),
                "",
            ]
        )
    return table_lines(rows, f"l{'r' * (len(heads) - 2)}l")


def explain_peak(device: torch.device) -> str:
    """Explains the tables' figures."""
    counted = (
        "tensors on the GPU" if device.type == "cuda" else "the whole process, its libraries too"
    )
    return f"peak: {counted}. speed, memory: relative to the first measured row."


class WorkerError(Exception):
    """Signals that a worker cannot continue, with a one-line message."""


class _Run:
    """A way being measured."""

    def __init__(self, module: str, way: Way, bar: tqdm, warmup: int, total: int) -> None:
        self._module = module
        self._way = way
        self._bar = bar
        self._warmup = warmup
        self._left = total
        self._taken = 0
        self._worker: Worker | None = None

    def reach(self, number: int) -> None:
        """Takes steps up to a given number, unless already taken."""
        way = self._way
        if self._taken >= number or way.error is not None:
            return
        try:
            self._bar.set_description(way.name)
            if self._worker is None:
                self._worker = Worker(self._module, way.job)
            answer = self._worker.step()
        except WorkerError as error:
            way.error = f"failed: {error}"
            self.close()
            return
        if self._taken == 0:
            way.result = answer["result"]
        way.resident = answer["resident"]
        if self._taken > self._warmup and way.peak is not None:
            way.peak = max(way.peak, answer["peak"])
        else:
            way.peak = answer["peak"]
        if self._taken >= self._warmup:
            way.times.append(answer["seconds"] / answer["result"].get("count", 1))
        self._advance(1)

    def _advance(self, steps: int) -> None:
        self._taken += steps
        self._left -= steps
        self._bar.update(steps)

    def close(self) -> None:
        self._advance(self._left)
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Worker:
    """The process of one way, as seen by the process that started it.

    Args:
        module: The module whose ``prepare`` is called there.
        job: The arguments; plain values.
    """

    def __init__(self, module: str, job: Mapping[str, Any]) -> None:
        # Lets the worker find a checkout that is not installed.
        here = str(Path(__file__).absolute().parents[2])
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH")) if part)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ktdn_plugin.bench.ways", module, json.dumps(dict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            encoding="utf-8",
        )

    def step(self) -> dict[str, Any]:
        """Takes one step; the first call prepares what it needs.

        Returns:
            ``seconds``, ``peak``, ``resident`` and ``result``, as in :class:`Way`.

        Raises:
            WorkerError: If the worker fails or has died.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("step\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:  # it is already gone
            line = ""
        if not line:
            raise WorkerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return dict(answer)

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self._log):
            with contextlib.suppress(OSError):  # unwritten data has no reader
                file.close()  # type: ignore[union-attr]

    def _last_words(self) -> str:
        code = self.process.wait()
        if code == -getattr(signal, "SIGKILL", 9):
            return "killed by the system, most likely out of memory: lower batch size or image size"
        if code < 0:
            return f"its process was ended by signal {-code}"
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line]
        last = f": {lines[-1].strip()}" if lines else ""
        return textwrap.shorten(f"its process ended with status {code}{last}", LONGEST_REASON)


def _explain(error: BaseException) -> str:
    """Returns an error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KTDNError) and lines:
        return lines[0]
    text = lines[0] if lines else ""
    # A compiler's error comes wrapped: "backend='inductor' raised:", with the error below.
    if text.endswith(":") and len(lines) > 1:
        text = lines[1]
    if is_out_of_memory(error):
        return textwrap.shorten(out_of_memory_line(error, "batch size or image size"), 160)
    name = type(error).__name__
    return textwrap.shorten(f"{name}: {text}" if text else name, LONGEST_REASON)


def _steps(
    module: str, job: Mapping[str, Any], wait: Callable[[], Any]
) -> Iterator[dict[str, Any]]:
    device = torch.device(job["device"])
    on_gpu = device.type == "cuda"
    wait()
    step: Step = importlib.import_module(module).prepare(**job)
    while True:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        forget_peak()
        start = time.perf_counter()
        finish = step()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        yield {
            "seconds": seconds,
            "peak": torch.cuda.max_memory_allocated(device) if on_gpu else peak_resident(),
            "resident": resident(),
            "result": finish(),
        }
        del finish
        wait()


def _serve() -> None:
    # Ctrl-C reaches the whole process group; the first process ends the others itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not be mistaken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, commands), daemon=True).start()
    module, job = sys.argv[1:]
    try:
        for answer in _steps(module, json.loads(job), commands.get):
            _say(answers, answer)
    except Exception as error:
        _say(answers, {"error": _explain(error)})


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _listen(source: TextIO, commands: queue.Queue[str]) -> None:
    for line in source:
        commands.put(line)
    # The other end is closed: its process is gone, and nothing awaits the current step.
    os._exit(0)


if __name__ == "__main__":
    _serve()
