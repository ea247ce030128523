"""One way to dehaze an image in a process of its own, see :mod:`ktdn_plugin.bench.process`."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ktdn_plugin.bench.process import WorkerProcess, serve

PLAIN, WHOLE, LEAST = "plain", "whole", "least"
ANY = "1000TB"


@dataclasses.dataclass(frozen=True)
class DehazeJob:
    """What a worker is to run.

    Attributes:
        way: ``plain``, the network as it is built, float32; ``whole``, ours without stripes;
            else a precision of ours.
        checkpoint: The network's file; drawn weights where absent.
        encoder: The timm backbone for drawn weights.
        height: The image's height.
        width: The image's width.
        device: The device, as torch writes it.
        max_memory: Bound of ours: a size, ``least`` or None.
        seed: Seed of drawn weights.
        reference: File of the result to compare with, which the plain way writes; empty for another
            network, whose result is another one.
        writes: Whether this one writes it.
    """

    way: str
    checkpoint: str | None
    encoder: str
    height: int
    width: int
    device: str
    max_memory: str | None
    seed: int
    reference: str
    writes: bool


class DehazeAnswer(NamedTuple):
    """What a worker says of one run.

    Attributes:
        seconds: Wall time, from an 8-bit image to an 8-bit image.
        peak: Most bytes that the process held; on a GPU, that tensors took.
        limit: The bound that it had.
        difference: Largest difference from the reference, of values in [0, 1].
        psnr: Of the result in relation to the reference, in dB; of both before they are rounded.
    """

    seconds: float
    peak: int | None
    limit: int | None
    difference: float | None
    psnr: float | None


class DehazeWorker(WorkerProcess):
    """The process of one way, as seen by the one that started it.

    Args:
        job: What it is to run.
    """

    def __init__(self, job: DehazeJob) -> None:
        super().__init__("ktdn_plugin.bench.dehaze_worker", vars(job))

    def run(self) -> DehazeAnswer:
        """Dehazes the image once.

        Raises:
            WorkerError: If the worker cannot, or died.
        """
        return DehazeAnswer(**self.ask())


def _steps(values: dict[str, Any], wait: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    import torch

    from ktdn_plugin.system_memory import forget_peak, peak_resident

    job = DehazeJob(**values)
    wait()
    device = torch.device(job.device)
    image = make_image(job.height, job.width)
    run = _plain(job, image) if job.way == PLAIN else _ours(job, image)
    on_gpu = device.type == "cuda"
    while True:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        forget_peak()
        start = time.perf_counter()
        limit, finish = run()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else peak_resident()
        yield DehazeAnswer(seconds, peak, limit, *finish())._asdict()
        del finish
        wait()


def make_image(height: int, width: int) -> Any:
    """Makes a photograph of some size, (h, w, 3) uint8, out of one of scikit-image's."""
    import cv2
    import skimage.data

    return cv2.resize(skimage.data.coffee(), (width, height), interpolation=cv2.INTER_CUBIC)


def _network(job: DehazeJob) -> Any:
    from ktdn_plugin.archs import KTDN
    from ktdn_plugin.bench.weights import draw_weights
    from ktdn_plugin.checkpoints.networks import load_network

    if job.checkpoint is not None:
        return load_network(job.checkpoint)
    network = KTDN(job.encoder).eval()
    draw_weights(network, job.seed)
    return network


Run = Callable[[], tuple[int | None, Callable[[], tuple[float | None, float | None]]]]


def _plain(job: DehazeJob, image: Any) -> Run:
    """The network as it is built, on the whole image."""
    import torch

    network = _network(job).to(job.device)

    def run() -> Any:
        with torch.inference_mode():
            x = torch.from_numpy(image).to(job.device).permute(2, 0, 1)[None].float() / 255
            made = network(x.contiguous()).clamp(0, 1)
            rounded = made[0].permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        assert rounded.shape == image.shape

        def finish() -> tuple[float | None, float | None]:
            if job.writes and not Path(job.reference).exists():
                _append(job.reference, made[0].float().cpu().permute(1, 0, 2))
            return None, None

        return None, finish

    return run


# The reference is read by hand: pages of a mapped file would count as memory of the process.
def _append(path: str, rows: Any) -> None:
    """Writes rows (n, 3, w), float32, behind those that a file has."""
    with Path(path).open("ab") as file:
        file.write(rows.contiguous().numpy().tobytes())


def _read_rows(path: str, top: int, rows: int, width: int) -> Any:
    import numpy as np
    import torch

    values = np.fromfile(path, np.float32, 3 * rows * width, offset=4 * 3 * top * width)
    return torch.from_numpy(values.reshape(rows, 3, width))


def _ours(job: DehazeJob, image: Any) -> Run:
    import torch

    from ktdn_plugin.inference import Dehazer
    from ktdn_plugin.inference.engine import Heights
    from ktdn_plugin.inference.frames import Frames

    class ComparedFrames(Frames):
        """Compares what it takes with the reference, some rows at a time, or writes it."""

        def __init__(self) -> None:
            super().__init__(image[None], device)
            self.largest, self.squares = 0.0, 0.0
            self.compares = bool(job.reference) and not job.writes and Path(job.reference).exists()

        def write(self, top: int, bottom: int, values: torch.Tensor) -> None:
            rows = min(bottom, job.height) - top
            if rows > 0 and (self.compares or job.writes):
                mine = values[0, :, :rows, : job.width].float().clamp(0, 1).cpu()
                mine = mine.permute(1, 0, 2)
                if job.writes:
                    _append(job.reference, mine)
                else:
                    off = mine - _read_rows(job.reference, top, rows, job.width)
                    self.largest = max(self.largest, float(off.abs_().max()))
                    self.squares += float(off.square_().sum(dtype=torch.float64))
            super().write(top, bottom, values)

    device = torch.device(job.device)
    precision = "float32" if job.way == WHOLE else job.way
    # Any bound will do to begin with: with one, freed memory is given back from the start.
    limit = ANY if job.max_memory == LEAST else job.max_memory
    dehazer = Dehazer(_network(job), device=device, precision=precision, max_memory=limit)
    if job.max_memory == LEAST:
        dehazer.max_memory = dehazer.needs(job.height, job.width)[1]
    first = [True]

    def run() -> Any:
        frames = ComparedFrames() if first[0] else Frames(image[None], device)
        first[0] = False
        if job.way == WHOLE:
            assert dehazer._planner is not None
            with torch.inference_mode():
                engine = dehazer._planner.engine
                engine.run(frames.read, frames.size, frames.write, Heights())
        else:
            dehazer.run(frames)

        def finish() -> tuple[float | None, float | None]:
            if not isinstance(frames, ComparedFrames) or not frames.compares:
                return None, None
            error = frames.squares / (3 * job.height * job.width)
            return frames.largest, 10 * math.log10(1 / error) if error else math.inf

        return dehazer.max_memory, finish

    return run


if __name__ == "__main__":
    serve(_steps)
