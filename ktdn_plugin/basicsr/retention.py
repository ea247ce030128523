"""Decides which of a run's checkpoints are kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.training import distributed

_NUMBERED = re.compile(r"net_\w+?_(\d+)\.pth")


def keep_newest(opt: Options) -> None:
    """Deletes all but the newest states with their networks, ``logger.keep_checkpoints`` of them.

    ``net_g_best.pth`` and ``net_g_latest.pth`` are never deleted.
    """
    count = opt["logger"].get("keep_checkpoints")
    if count is None or opt["rank"] != 0:
        return
    states = {
        int(file.stem): file
        for file in Path(opt["path"]["training_states"]).glob("*.state")
        if file.stem.isdigit()
    }
    kept = sorted(states)[-count:]
    for iteration in states.keys() - set(kept):  # first, so that no state lacks its networks
        states[iteration].unlink(missing_ok=True)
    for file in Path(opt["path"]["models"]).glob("net_*.pth"):
        match = _NUMBERED.fullmatch(file.name)
        if match and int(match[1]) not in kept and int(match[1]) < kept[-1]:
            file.unlink(missing_ok=True)


def save_best(model: Any, name: str, iteration: int | str) -> None:
    """Saves ``net_g_best.pth`` if an iteration's figures are the best so far.

    Args:
        model: A BasicSR model that has just been validated.
        name: The validation set.
        iteration: The iteration.
    """
    val = model.opt["val"]
    metric = val.get("best_metric") or next(iter(val["metrics"]))
    if model.best_metric_results[name][metric]["iter"] != iteration:
        return
    averaged = hasattr(model, "net_g_ema")
    networks = [model.net_g, *([model.net_g_ema] if averaged else [])]
    with distributed.fail_on_all_ranks():
        model.save_network(networks, "net_g", "best", ["params", "params_ema"][: len(networks)])
