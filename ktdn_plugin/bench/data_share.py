"""Measures how long training waits for its data, using the data of an options file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ktdn_plugin.bench.variants import MINIMUM_SIZE, OURS, build_step
from ktdn_plugin.errors import KTDNError, error_context


class DataShare(NamedTuple):
    """The measurement.

    Attributes:
        waiting: Seconds spent waiting for batches.
        total: Total seconds.
        shape: Shape of the batches (n, 3, h, w).
    """

    waiting: float
    total: float
    shape: tuple[int, ...]


def measure_data_share(
    options: Path, encoder: str, device: torch.device, steps: int, warmup: int, seed: int
) -> DataShare:
    """Trains with ``ours`` on an options file's training data, timing the wait for each batch.

    The network is the benchmark's; batch size, crops, augmentation and workers are the file's.

    Args:
        options: Options file for ``ktdn train``.
        encoder: The networks' timm backbone.
        device: Where to train.
        steps: Timed steps.
        warmup: Steps before them, at least one: the first batch waits for the workers to start.
        seed: Seed of the weights, and of the data order if the file sets none.

    Raises:
        KTDNError: If the options are wrong, or the data cannot be read.
    """
    # The benchmark of KTDN's own step runs without BasicSR; only this one reads its options.
    from ktdn_plugin.basicsr.samples import build_train_batches, load_training_options

    opt = load_training_options(options, device, seed)
    step = build_step(OURS, encoder, device, seed)
    waiting = total = 0.0
    shape: tuple[int, ...] = ()
    with error_context(str(options)), tqdm(total=warmup + steps, unit="step", disable=None) as bar:
        bar.set_description("data")
        batches = build_train_batches(opt)
        for number in range(warmup + steps):
            start = time.perf_counter()
            hazy, clear = _to_device(next(batches), device)
            arrived = time.perf_counter()
            shape = tuple(clear.shape)
            if min(shape[-2:]) < MINIMUM_SIZE:
                raise KTDNError(
                    f"{options}: datasets.train gives images of {shape[-2]} x {shape[-1]}; the "
                    f"benchmark takes at least {MINIMUM_SIZE} x {MINIMUM_SIZE}: raise gt_size"
                )
            step(hazy, clear)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= warmup:
                waiting += arrived - start
                total += time.perf_counter() - start
            bar.update()
    return DataShare(waiting, total, shape)


def _to_device(batch: dict[str, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    clear = batch["gt"].to(device)
    # A teacher's data consists of clear images only.
    return batch["lq"].to(device) if "lq" in batch else clear, clear
