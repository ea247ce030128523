"""Reads an options file's training samples, for inspection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ktdn_plugin.basicsr.data_share import build_train_batches, load_training_options
from ktdn_plugin.errors import KTDNError, error_context
from ktdn_plugin.haze.sheet import TrainingSample


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
    try:
        with error_context(str(path)):
            for batch in build_train_batches(opt):
                yield TrainingSample(batch["lq"][0], batch["gt"][0], batch["gt_path"][0])
    except KTDNError as error:
        raise KTDNError(f"{path}: datasets.train: {error}") from error
