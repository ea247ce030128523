"""Describes a run in its checkpoints: its name, data, iteration and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ktdn_plugin.checkpoints.metadata import Metadata, describe_training

LAST = "ktdn_last_figures"
"""Key of the last figures in the run's message hub, which is saved in checkpoints."""

SET = "val"
"""mmengine has a single validation set, without a name."""


def keep_figures(runner: Runner, figures: Mapping[str, Any]) -> None:
    """Keeps the figures of a validation in the run's message hub."""
    plain = {metric: float(value) for metric, value in figures.items() if value is not None}
    if plain:
        runner.message_hub.update_info(LAST, {"iteration": runner.iter, "figures": plain})


def describe(runner: Runner, iteration: int) -> Metadata:
    """Returns the metadata of a checkpoint.

    Args:
        runner: The run.
        iteration: Number of iterations done.

    Returns:
        See :mod:`ktdn_plugin.checkpoints.metadata`.
    """
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    run = {
        # mmengine's own run name contains the time.
        "name": Path(runner.work_dir).name,
        "iteration": iteration,
        "total": runner.max_iters,
    }
    stage = getattr(model, "STAGE", "")
    loaders = {"train": runner._train_loop, "val": runner._val_loop}
    hub = runner.message_hub
    last = hub.get_info(LAST) if LAST in hub.runtime_info else None
    best = _best(runner)
    return describe_training(
        getattr(model, "network", model),
        f"mmengine {mmengine.__version__}",
        run={**run, "stage": stage} if stage else run,
        data={name: describe_sets(loop, name) for name, loop in loaders.items()},
        metrics={"last": {SET: last} if last else {}, "best": {SET: best} if best else {}},
    )


def describe_sets(loop: Any, name: str) -> list[dict[str, Any]]:
    """Returns what identifies a loop's data; empty if there is no loop."""
    dataset = getattr(getattr(loop, "dataloader", None), "dataset", None)
    if dataset is None:
        return []
    metainfo = getattr(dataset, "metainfo", None) or {}
    identity = {key: str(metainfo.get(key) or "") for key in ("split", "fingerprint")}
    return [{"name": name, **identity, "images": len(dataset)}]


def _best(runner: Runner) -> dict[str, Any]:
    """Returns the best figures kept by mmengine's own hook, for the metrics in ``save_best``."""
    known = runner.message_hub.runtime_info
    best = {}
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or not hook.save_best:
            continue
        for metric in hook.key_indicators:
            suffix = "" if len(hook.key_indicators) == 1 else f"_{metric}"
            score, path = known.get(f"best_score{suffix}"), known.get(f"best_ckpt{suffix}")
            # Only the file name contains the iteration.
            number = re.search(r"_(\d+)$", Path(str(path)).stem)
            if score is not None and number:
                when = "epoch" if hook.by_epoch else "iteration"
                best[metric] = {when: int(number[1]), "value": float(score)}
    return best
