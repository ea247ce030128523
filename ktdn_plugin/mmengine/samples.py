"""Reads a config's training samples, for inspection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ktdn_plugin.data.order import seed_generators
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.sheet import TrainingSample
from ktdn_plugin.mmengine.build_errors import explaining_parts
from ktdn_plugin.mmengine.config import load_config


def read_training_samples(path: Path, seed: int | None = None) -> Iterator[TrainingSample]:
    """Yields the first samples of a training, in its order, without end.

    They are exactly those samples if the config's sampler is ``SeededSampler``.

    Args:
        path: The config file.
        seed: Overrides the seed of its ``randomness``.

    Raises:
        KTDNError: If the config is wrong, or the data cannot be read.
    """
    cfg = load_config(path)
    if not isinstance(cfg.get("train_dataloader"), dict):
        raise KTDNError(f"{path}: has no train_dataloader; give a config that trains")
    if seed is None:
        seed = (cfg.get("randomness") or {}).get("seed") or 0
    seed_generators(seed)
    # One by one, in this process: this does not affect the samples.
    one = {"batch_size": 1, "num_workers": 0, "persistent_workers": False}
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine"))
    with scope, explaining_parts(str(path), cfg):
        for batch in Runner.build_dataloader(cfg.train_dataloader | one, seed):
            (sample,) = batch["data_samples"]
            yield TrainingSample(batch["inputs"][0], sample.clear, sample.clear_name)
