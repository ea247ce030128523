"""Reads an options file's training data as its training does, for inspection and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ktdn_plugin.basicsr import register
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.options.loading import load_checked
from ktdn_plugin.errors import KTDNError, error_context
from ktdn_plugin.haze.sheet import TrainingSample


def load_training_options(path: Path, device: torch.device, seed: int) -> Options:
    """Loads an options file for ``ktdn train``, as far as needed for its training data.

    Raises:
        KTDNError: With one line for each problem.
    """
    opt = load_checked(path, is_train=True)
    register()
    opt.setdefault("manual_seed", seed)
    opt |= {"is_train": True, "dist": False, "rank": 0, "world_size": 1}
    # One device, whatever the file says.
    opt["num_gpu"] = int(device.type == "cuda")
    if device.type != "cuda":
        opt["datasets"]["train"].pop("prefetch_mode", None)
    return opt


def build_train_batches(opt: Options) -> Iterator[dict[str, Any]]:
    """Returns the endless batches of ``datasets.train``, as training reads them."""
    from ktdn_plugin.basicsr.loaders import TrainingBatches

    return iter(TrainingBatches(opt))


def read_training_samples(path: Path, seed: int | None = None) -> Iterator[TrainingSample]:
    """Yields exactly the first samples of a training, in its order, without end.

    Args:
        path: Options file for ``basicsr train``.
        seed: Overrides its ``manual_seed``.

    Raises:
        KTDNError: If the options are wrong, or the data cannot be read.
    """
    opt = load_training_options(path, torch.device("cpu"), 0)
    opt["manual_seed"] = opt["manual_seed"] if seed is None else seed
    # One by one, in this process: this does not affect the samples.
    opt["datasets"]["train"] |= {"batch_size_per_gpu": 1, "num_worker_per_gpu": 0}
    opt["train"]["grad_accum_steps"] = 1
    with error_context(str(path)):
        try:
            for batch in build_train_batches(opt):
                yield TrainingSample(batch["lq"][0], batch["gt"][0], batch["gt_path"][0])
        except KTDNError as error:
            raise KTDNError(f"{path}: datasets.train: {error}") from error
