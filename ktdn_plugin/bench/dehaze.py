"""``ktdn bench dehaze``: dehazing an image the plain way and ours, on this machine.

Every way gets the same weights and the same image. If the plain way does not fit into memory, ours
without stripes is the reference.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.bench.costs import parse_size
from ktdn_plugin.bench.ways import (
    Step,
    Way,
    explain_peak,
    format_ways,
    measure,
    raise_if_failed,
    require_least,
)
from ktdn_plugin.bench.weights import draw_weights
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.console import print_lines
from ktdn_plugin.data.demo_photos import sample_photo
from ktdn_plugin.environment import describe_machine
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.dehazer import TorchDehazer
from ktdn_plugin.inference.devices import PRECISIONS, find_device, find_precision
from ktdn_plugin.inference.engine import Heights
from ktdn_plugin.inference.frames import Frames
from ktdn_plugin.inference.memory import Memory
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory
from ktdn_plugin.inference.rehearsal import metering, without_content
from ktdn_plugin.model_zoo.weights import DEFAULT

PLAIN, WHOLE, LEAST = "plain", "whole", "least"
ANY = "1000TB"


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
    folder: int | None = None,
    formats: Sequence[str] = ("jpg", "png"),
    processes: Sequence[int] = (1, 2),
) -> None:
    """Measures dehazing, and prints a table for each size.

    Args:
        checkpoint: A trained network; random weights by default.
        encoder: The timm backbone for random weights.
        sizes: Image sizes, such as ``1600x1200``.
        precisions: Precisions of our way, by default all that the device supports.
        max_memory: Memory limits; each is measured for each precision, besides the run without
            one. ``least`` is the least that is enough.
        beside: Other trained networks, names or files, to measure in each precision too.
        steps: Timed runs of each way; the median is reported.
        warmup: Runs before them, may be 0.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        seed: Seed of random weights.
        folder: Measure the whole command instead, on a folder of so many photographs.
        formats: Their formats.
        processes: Numbers of processes that share them.

    Raises:
        KTDNError: If an argument is wrong, or, after the tables, if one of ours could not be
            measured.
    """
    try:
        place = find_device(device, ("cpu", "cuda"))
        names = _precisions(precisions, place)
    except KTDNError as error:
        raise KTDNError(f"bench: {error}") from error
    numbers = {"processes": (min(processes, default=1), 1)}
    if folder is not None:
        numbers["folder"] = (folder, 1)
    require_least({"steps": (steps, 1), "warmup": (warmup, 0), **numbers})
    parsed = [parse_size(size) for size in sizes]
    for bound in max_memory:
        if bound != LEAST:
            parse_memory(bound)
    if folder is not None:
        from ktdn_plugin.bench.folder import bench_folder

        if precisions is not None or beside or LEAST in max_memory:
            raise KTDNError(
                "bench: --folder goes with neither --precisions, --beside nor --max-memory least; "
                "leave them out"
            )
        name = DEFAULT if checkpoint is None else str(checkpoint)
        for line in describe_machine(place):
            print_lines(line)
        print_lines(f"network  {name}; median of {steps} runs after {warmup}")
        for size in parsed:
            bench_folder(name, size, formats, folder, processes, max_memory, steps, warmup, place)
        return
    network = KTDN(encoder) if checkpoint is None else load_network(checkpoint)
    for other in beside:
        load_network(other)  # report unreadable files before measuring
    for line in describe_machine(place):
        print_lines(line)
    drawn = f"{encoder}, drawn weights" if checkpoint is None else str(checkpoint)
    print_lines(f"network  {drawn}; median of {steps} runs after {warmup}; 8-bit image in and out")
    ways: list[Way] = []
    for width, height in parsed:
        job = {
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "encoder": encoder,
            "height": height,
            "width": width,
            "device": str(place),
            "seed": seed,
        }
        needed = plain_peak(network, (width, height))
        with tempfile.TemporaryDirectory() as temporary:
            reference = str(Path(temporary) / "reference")
            of_size = _first_ways(job, reference, needed)
            for name in names:
                for limit in (None, *max_memory):
                    values = {"way": name, "max_memory": limit, "reference": reference}
                    of_size.append(Way(f"{name} in {limit}" if limit else name, {**job, **values}))
            for other in beside:
                for name in names:
                    # Its result differs, so it is not compared with anything.
                    others = {**job, "way": name, "checkpoint": other}
                    of_size.append(Way(f"{other}, {name}", others))
            measure(__name__, of_size, steps, warmup)
        columns = {"bound": _bound, "off": _difference, "PSNR to it": _psnr}
        print_lines("", f"{width} x {height}", *format_ways(of_size, extras=columns))
        ways += of_size
    print_lines(
        "",
        explain_peak(place),
        "off, PSNR: largest difference from its result, of values in [0, 1], and PSNR of the two, "
        "before rounding to 8 bit.",
    )
    raise_if_failed(ways)


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


def plain_peak(network: KTDN, size: tuple[int, int]) -> int:
    """Returns the bytes that the plain way takes for an image, beyond the weights."""
    with metering() as meter:
        without_content(network.eval())(torch.empty(1, 3, size[1], size[0], device="meta"))
    return meter.peak


def _first_ways(job: dict[str, Any], reference: str, needed: int) -> list[Way]:
    """Returns the plain way, and ours without stripes if the plain one does not fit."""
    job = {**job, "reference": reference, "writes": True}
    plain = Way(PLAIN, {**job, "way": PLAIN})
    free = Memory(torch.device(job["device"]), None).free()
    if free is None or needed <= free:
        return [plain]
    plain.error = (
        f"not run: takes {format_memory(needed)} beyond its weights, "
        f"{format_memory(max(free, 1))} are free"
    )
    return [plain, Way(WHOLE, {**job, "way": WHOLE})]


def prepare(
    way: str,
    checkpoint: str | None,
    encoder: str,
    height: int,
    width: int,
    device: str,
    seed: int,
    max_memory: str | None = None,
    reference: str = "",
    writes: bool = False,
) -> Step:
    """Builds what dehazes an image in one way.

    Args:
        way: ``plain``, the network as built, float32; ``whole``, ours without stripes; otherwise a
            precision of our way.
        checkpoint: The network's file; random weights by default.
        encoder: The timm backbone for random weights.
        height: The image's height.
        width: The image's width.
        device: The device, as torch writes it.
        seed: Seed of random weights.
        max_memory: Memory limit of our way: a size, ``least`` or None.
        reference: File of the result to compare with; empty for another network's result.
        writes: Whether this way writes it.
    """
    if checkpoint is None:
        network = KTDN(encoder).eval()
        draw_weights(network, seed)
    else:
        network = load_network(checkpoint)
    image = make_image(height, width)
    if way == PLAIN:
        return _plain(network.to(device), image, reference)
    record = reference if writes else f"{reference}-{way}-{max_memory}" if reference else ""
    # Start with any limit: having one makes freed memory be returned from the start.
    limit = ANY if max_memory == LEAST else max_memory
    precision = "float32" if way == WHOLE else way
    dehazer = TorchDehazer(network, device=device, precision=precision, max_memory=limit)
    if max_memory == LEAST:
        dehazer.max_memory = dehazer.needs(height, width)[1]
    records = [record]

    def run() -> Callable[[], dict[str, Any]]:
        # The first run's result is kept in a file, which takes no memory of the process.
        record = records.pop() if records else ""
        frames = (
            RecordedFrames(image, dehazer.device, record)
            if record
            else Frames(image[None], dehazer.device)
        )
        if way == WHOLE:
            assert dehazer._planner is not None
            with torch.inference_mode():
                engine = dehazer._planner.engine
                engine.run(frames.read, frames.size, frames.write, Heights())
        else:
            dehazer.run(frames)
        return lambda: {
            "limit": dehazer.max_memory,
            **(_compared(record, reference) if record and not writes else {}),
        }

    return run


def make_image(height: int, width: int) -> Any:
    """Makes a photograph of a given size, (h, w, 3) uint8, from one of scikit-image's."""
    photo = sample_photo("coffee.png")
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)


def _plain(network: nn.Module, image: Any, reference: str) -> Step:
    """Returns a step that runs the network as built, on the whole image."""
    place = next(network.parameters()).device

    def run() -> Callable[[], dict[str, Any]]:
        with torch.inference_mode():
            x = torch.from_numpy(image).to(place).permute(2, 0, 1)[None].float() / 255
            made = network(x.contiguous()).clamp(0, 1)
            rounded = made[0].permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        assert rounded.shape == image.shape

        def finish() -> dict[str, Any]:
            if not Path(reference).exists():
                _append(reference, made[0])
            return {}

        return finish

    return run


class RecordedFrames(Frames):
    """Frames that also write the result to a file, before rounding."""

    def __init__(self, image: Any, device: torch.device, file: str) -> None:
        super().__init__(image[None], device)
        self._file = file

    def write(self, top: int, bottom: int, values: Tensor) -> None:
        """Writes rows of the padded result."""
        rows = min(bottom, self.height) - top
        if rows > 0:
            _append(self._file, values[0, :, :rows, : self.width])
        super().write(top, bottom, values)


def _append(path: str, rows: Tensor) -> None:
    """Appends rows (3, n, w) to a file."""
    rows = rows.float().clamp(0, 1).cpu().permute(1, 0, 2)
    with Path(path).open("ab") as file:
        file.write(rows.contiguous().numpy().tobytes())


def _compared(path: str, reference: str) -> dict[str, Any]:
    """Compares a file of results with the reference, and deletes it."""
    if not Path(reference).exists():  # the reference way failed
        return {}
    off = np.fromfile(path, np.float32) - np.fromfile(reference, np.float32)
    Path(path).unlink()
    error = float(np.square(off, dtype=np.float64).mean())
    psnr = 10 * math.log10(1 / error) if error else math.inf
    return {"difference": float(np.abs(off).max()), "psnr": psnr}


def _bound(way: Way, _: Way) -> str:
    limit = way.result.get("limit")
    return "-" if limit is None else format_memory(limit)


def _difference(way: Way, _: Way) -> str:
    return f"{way.result['difference']:.1e}" if "difference" in way.result else "-"


def _psnr(way: Way, _: Way) -> str:
    psnr = way.result.get("psnr", math.nan)
    if math.isnan(psnr):
        return "-"
    return "equal" if math.isinf(psnr) else f"{psnr:.1f} dB"
