"""What mmengine has logged of a run: one JSON object a line of ``STAMP/vis_data/scalars.json``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ktdn_plugin.curves.run import Curve, Point, Run, number_of
from ktdn_plugin.curves.saved_options import saved_sets
from ktdn_plugin.curves.thinning import thin

LOGS = "*/vis_data/scalars.json"
# What a line holds besides losses and figures.
_OTHERS = {"lr", "base_lr", "momentum", "data_time", "time", "memory", "iter", "step", "epoch"}
_OTHERS |= {"eta", "grad_norm", "validated", "loss"}


def read_scalars(folder: Path) -> Run | None:
    """Reads the log of a work directory, resumed runs' one after another.

    Lines that are cut short, as of a training that was killed, are passed over.

    Returns:
        What :func:`ktdn_plugin.curves.runs.read_run` gives, losses by mmengine's names (their sum
        is left out), figures by their names in lower case; None where nothing is logged.
    """
    losses: dict[str, list[Point]] = {}
    rates: list[Point] = []
    metrics: dict[str, list[Point]] = {}
    for log in sorted(folder.glob(LOGS)):
        at = 0.0
        for record in _records(log):
            if "lr" in record:
                at = number_of(record.get("step")) or at
                _put(rates, at, record["lr"])
                for name in (name for name in record if name.startswith("loss_")):
                    _put(losses.setdefault(name, []), at, record[name])
            else:
                # Of a validation mmengine logs the epoch, 0 in a run that counts iterations.
                at = max(at, number_of(record.get("step")) or 0)
                for name in (name for name in record if name not in _OTHERS):
                    _put(metrics.setdefault(name.lower(), []), at, record[name])
    if not (losses or rates or metrics):
        return None
    splits = [str(one.options.get("split") or "") for one in saved_sets(folder)]
    name = f"val ({splits[0]})" if splits and splits[0] else "val"
    return Run(
        folder,
        {key: _curve(points) for key, points in losses.items()},
        [_curve(rates)] if rates else [],
        {(name, key): _curve(points) for key, points in metrics.items()},
        {},
    )


def read_test(folder: Path) -> dict[str, float]:
    """Reads the figures of a work directory's newest test; empty where there was none."""
    for log in sorted(folder.glob("*/*.json"), reverse=True):
        for record in _records(log):
            if "step" not in record:
                numbers = {key.lower(): number_of(value) for key, value in record.items()}
                return {k: v for k, v in numbers.items() if v is not None and k not in _OTHERS}
    return {}


def _records(log: Path) -> list[dict[str, Any]]:
    records = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _put(points: list[Point], at: float, value: object) -> None:
    number = number_of(value)
    if number is None:
        return
    while points and points[-1][0] >= at:  # resumed from an earlier state
        points.pop()
    points.append((at, number))


def _curve(points: list[Point]) -> Curve:
    x, y = (np.array(values, dtype=np.float64) for values in zip(*points, strict=True))
    finite = [point for point in points if math.isfinite(point[1])]
    highest = max(finite, key=lambda point: point[1], default=None)
    lowest = min(finite, key=lambda point: point[1], default=None)
    broken = next((at for at, value in points if not math.isfinite(value)), None)
    return Curve(*thin(x, y), highest, lowest, finite[-1] if finite else None, broken)
