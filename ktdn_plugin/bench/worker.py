"""A training step's variant in a process of its own, see :mod:`ktdn_plugin.bench.process`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ktdn_plugin.bench.process import WorkerProcess, serve


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is to run.

    Attributes:
        variant: Name of the variant.
        encoder: The networks' timm backbone.
        batch_size: Images in a batch.
        size: Height and width of an image.
        device: The device, as torch writes it.
        seed: Seed of weights and images.
    """

    variant: str
    encoder: str
    batch_size: int
    size: int
    device: str
    seed: int


class Answer(NamedTuple):
    """What a worker says of one training step.

    Attributes:
        seconds: Wall time.
        losses: The weighted losses by name.
        peak: Most bytes so far, see :func:`ktdn_plugin.system_memory.peak_resident`; on a GPU the
            most that tensors took in this step. None where it is not known.
        resident: Bytes that the process holds now, None where it is not known.
    """

    seconds: float
    losses: dict[str, float]
    peak: int | None
    resident: int | None


class Worker(WorkerProcess):
    """The process of one variant, as seen by the one that started it.

    Args:
        job: What it is to run.
    """

    def __init__(self, job: Job) -> None:
        super().__init__("ktdn_plugin.bench.worker", vars(job))

    def step(self) -> Answer:
        """Takes one training step; the first one builds the networks before it.

        Raises:
            WorkerError: If the worker cannot, or died.
        """
        return Answer(**self.ask())


def _steps(values: dict[str, Any], wait: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    import torch

    from ktdn_plugin.allocator import keep_freed_memory
    from ktdn_plugin.bench.variants import PLAIN, build_step, synthetic_batches
    from ktdn_plugin.system_memory import peak_resident, resident

    job = Job(**values)
    wait()
    baseline = peak_resident()
    device = torch.device(job.device)
    on_gpu = device.type == "cuda"
    if job.variant != PLAIN and not on_gpu:
        keep_freed_memory()  # as ktdn train does
    torch.backends.cudnn.benchmark = True  # as in training
    step = build_step(job.variant, job.encoder, device, job.seed)
    batches = [
        (hazy.to(device), clear.to(device))
        for hazy, clear in synthetic_batches(job.batch_size, job.size, job.seed)
    ]
    number = 0
    while True:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        losses = step(*batches[number % len(batches)])
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        if on_gpu:
            peak: int | None = torch.cuda.max_memory_allocated(device)
        else:
            now = peak_resident()
            peak = None if now is None or baseline is None else now - baseline
        weighted = {name: loss.item() for name, loss in losses.items()}
        yield Answer(seconds, weighted, peak, resident())._asdict()
        number += 1
        wait()


if __name__ == "__main__":
    serve(_steps)
