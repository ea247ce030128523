"""``ktdn bench dehaze --folder``: the whole command on a folder of photographs, and a plain loop.

Each way is one process or several, started anew for each step, as a user starts them: what Python
and torch take to start is in the time.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ktdn_plugin.bench.dehaze import make_image, plain_peak
from ktdn_plugin.bench.ways import Way, format_ways, raise_if_failed
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.photos import Photo, write_photo
from ktdn_plugin.pipeline import usable_cores
from ktdn_plugin.subcommands import environment_of_subcommands
from ktdn_plugin.system_memory import available, peak_resident

PLAIN = "plain loop"
_EVERY = 0.05  # seconds between two looks at the processes

_Line = tuple[list[str], dict[str, str]]
"""A command, and what is different in its environment."""


def bench_folder(
    checkpoint: str,
    size: tuple[int, int],
    formats: Sequence[str],
    photos: int,
    processes: Sequence[int],
    max_memory: Sequence[str],
    steps: int,
    warmup: int,
    device: torch.device,
) -> None:
    """Measures a folder of photographs in each format, and prints a table for each.

    Args:
        checkpoint: A trained network's name or file.
        size: The photographs' width and height.
        formats: Such as ``jpg`` and ``png``.
        photos: Number of photographs.
        processes: Numbers of processes that share the photographs and the CPU cores.
        max_memory: Memory limits, of all processes together.
        steps: Timed runs of each way; the median is reported.
        warmup: Runs before them, may be 0.
        device: Where to compute.

    Raises:
        KTDNError: If a limit is no memory size, or, after the tables, a way of ours failed.
    """
    limits = [None, *map(parse_memory, max_memory)]
    ways_of_all: list[Way] = []
    needed = plain_peak(load_network(resolve_checkpoint(checkpoint)), size)
    for suffix in formats:
        with tempfile.TemporaryDirectory() as place:
            hazy = Path(place) / "hazy"
            for number in range(photos):
                pixels = photo_with_grain(size, number)
                write_photo(hazy / f"{number:04}.{suffix}", Photo(pixels))
            plain = ["bench.plain_loop", checkpoint, str(device), str(hazy)]
            ours = ["dehaze", str(hazy), "--checkpoint", checkpoint, "--device", str(device)]
            lines: dict[str, list[_Line]] = {PLAIN: [(plain, {})]}
            lines["ktdn dehaze, --workers 0"] = [([*ours, "--workers", "0"], {})]
            for limit in limits:
                within = f" in {format_memory(limit)}" if limit else ""
                for count in processes:
                    name = f"{count} processes" if count > 1 else "ktdn dehaze"
                    lines[name + within] = _shares(ours, count, limit)
            ways = [Way(name, {}) for name in lines]
            free = available()
            if device.type == "cpu" and free is not None and needed > free:
                ways[0].error = (
                    f"not run: takes {format_memory(needed)} beyond its weights, "
                    f"{format_memory(max(free, 1))} are free"
                )
            _measure(ways, lines, Path(place) / "out", photos, steps, warmup)
        width, height = size
        title = f"{photos} {suffix} photos of {width} x {height}"
        print_lines("", title, *format_ways(ways, item="photo", extras={"CPU": _cpu}))
        ways_of_all += ways
    print_lines(
        "",
        "Whole commands, from their start. plain loop: Pillow reads, the network as built computes "
        "the whole photo without a base layer, Pillow writes, one after the other. peak: the "
        "largest of each process, libraries too, added up. CPU: seconds of all cores, per photo.",
    )
    raise_if_failed(ways_of_all)


def photo_with_grain(size: tuple[int, int], number: int) -> np.ndarray:
    """Makes a photograph (h, w, 3) with a camera's grain, without which PNG were too easy.

    Args:
        size: Width and height.
        number: Photographs of other numbers are other ones.
    """
    width, height = size
    pixels = np.roll(make_image(height, width), 37 * number, axis=1).astype(np.float32)
    pixels += np.random.default_rng(number).normal(0, 1.5, pixels.shape).astype(np.float32)
    return pixels.round().clip(0, 255).astype(np.uint8)


def _cpu(way: Way, _: Way) -> str:
    return f"{statistics.median(way.result['cpu']):.1f}s" if way.result.get("cpu") else "-"


def _shares(words: Sequence[str], count: int, limit: int | None) -> list[_Line]:
    """Returns a command for each of several processes, which divide cores and memory."""
    bounds = ["--max-memory", f"{limit // count}B"] if limit else []
    if count == 1:
        return [([*words, *bounds], {})]
    threads = str(max(1, usable_cores() // count))
    bounds += ["--workers", threads]
    return [
        ([*words, *bounds, "--shard", f"{number}/{count}"], {"OMP_NUM_THREADS": threads})
        for number in range(1, count + 1)
    ]


def _measure(
    ways: Sequence[Way],
    lines: Mapping[str, Sequence[_Line]],
    output: Path,
    photos: int,
    steps: int,
    warmup: int,
) -> None:
    """Runs all ways in turn, so that other load on the machine affects all alike."""
    total = (warmup + steps) * len(ways)
    with tqdm(total=total, unit="run", disable=None, leave=False) as bar:
        for step in range(warmup + steps):
            for way in ways:
                bar.set_description(way.name)
                if way.error is None:
                    try:
                        before = _cpu_of_children()
                        seconds, peak = _run(lines[way.name], output)
                        made = [path for path in output.iterdir() if path.is_file()]
                        if len(made) != photos:
                            raise KTDNError(f"made {len(made)} of {photos} photos")
                    except KTDNError as error:
                        way.error = f"failed: {error}"
                    else:
                        if step >= warmup:
                            way.times.append(seconds / photos)
                            if before is not None:
                                cpu = (_cpu_of_children() or 0) - before
                                way.result.setdefault("cpu", []).append(cpu / photos)
                            way.peak = None if peak is None else max(way.peak or 0, peak)
                shutil.rmtree(output, ignore_errors=True)
                bar.update()


def _cpu_of_children() -> float | None:
    """Returns the seconds that processes started here have computed; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(lines: Sequence[_Line], output: Path) -> tuple[float, int | None]:
    """Runs processes at the same time.

    Returns:
        Seconds until the last has ended, and the bytes that they held at most, None if unknown.

    Raises:
        KTDNError: If one fails, with the last line that it printed.
    """
    start = time.perf_counter()
    running: list[subprocess.Popen[str]] = []
    peaks: dict[int, int | None] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        try:
            for words, environment in lines:
                is_ours = words[0] == "dehaze"
                module = "ktdn_plugin" if is_ours else f"ktdn_plugin.{words[0]}"
                command = [sys.executable, "-m", module, *(words if is_ours else words[1:])]
                command += ["--output", str(output)] if is_ours else [str(output)]
                running.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        text=True,
                        env={**environment_of_subcommands(), **environment},
                    )
                )
            while any(process.poll() is None for process in running):
                for process in running:
                    # The peak of a process that has just ended is no longer known.
                    peaks[process.pid] = peak_resident(process.pid) or peaks.get(process.pid)
                time.sleep(_EVERY)
            seconds = time.perf_counter() - start
        finally:
            for process in running:  # by Ctrl-C
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if any(process.returncode for process in running):
            log.seek(0)
            said = [line.strip() for line in log if line.strip()]
            raise KTDNError(said[-1] if said else "its process failed without a word")
    known = [peak for peak in peaks.values() if peak is not None]
    return seconds, sum(known) if len(known) == len(lines) else None
