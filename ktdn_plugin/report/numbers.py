"""Figures as a page shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ktdn_plugin.curves.run import direction
from ktdn_plugin.metrics import TITLES


def ordered_metrics(figures: Iterable[Iterable[str]]) -> list[str]:
    """Lists metrics: PSNR and SSIM first, others in the order in which they come."""
    found = dict.fromkeys(metric for one in figures for metric in one)
    return sorted(found, key=lambda metric: (metric != "psnr", metric != "ssim"))


def heading(metric: str) -> str:
    """Names a metric, and tells which way it is better; the name is not escaped."""
    arrow = {1: " ↑", -1: " ↓"}.get(direction(metric), "")
    return TITLES.get(metric, metric) + arrow


def rounded(metric: str, value: float) -> str:
    """Rounds a figure as papers do: dB to two places, others to three."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.2f}" if metric.startswith("psnr") else f"{value:.3f}"


def exact(value: float) -> str:
    """Writes a figure as it was read."""
    return repr(value)
