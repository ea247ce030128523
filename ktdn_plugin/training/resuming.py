"""Compares a resumed training with what its options say now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Warn = Callable[[str], object]

PROGRESS = {"last_epoch", "base_lrs", "_last_lr", "_step_count", "_get_lr_called_within_step"}
PROGRESS |= {"_is_initial", "verbose"}  # of some versions of torch
PROGRESS |= {"last_step", "base_values", "_global_step", "_last_value"}  # mmengine's
"""What a schedule's state says of how far it is."""


def schedule_plan(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a schedule's state says of its course, without how far it is."""
    return {key: value for key, value in state.items() if key not in PROGRESS}


def schedule_changes(
    plan: Mapping[str, Any], saved: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Finds what the options change in a schedule.

    Args:
        plan: What the options say, see :func:`schedule_plan`.
        saved: The saved state, of a schedule of the same kind.

    Yields:
        A key, and the line that tells of its change.
    """
    for key, value in plan.items():
        now, before = _as_lists(value), _as_lists(saved[key])
        if now != before:
            yield key, f"{now}, was {before}; the learning rate follows the new one."


def compare_rates(rates: Any, saved: Any, warn: Warn) -> None:
    """Warns where the options' learning rates differ from the resumed ones."""
    if rates != saved:
        warn(f"Continuing with the state's learning rates, {saved}, not the options', {rates}.")


def compare_progress(
    earlier: Mapping[str, Any], terms: Mapping[str, Any], warn: Warn, seed: str
) -> int:
    """Warns of what makes a resumed training inexact.

    Args:
        earlier: ``samples`` that all processes together had taken, and the terms then.
        terms: ``processes``, ``batch`` (samples per iteration), ``seed`` and ``images`` now.
        warn: Takes a line for each.
        seed: The seed's key.

    Returns:
        After how many samples the data order continues.
    """
    texts = {
        "processes": "number of processes",
        "batch": "samples per iteration",
        "seed": seed,
        "images": "number of training images",
    }
    changed = {key: text for key, text in texts.items() if earlier.get(key) != terms[key]}
    for key, text in changed.items():
        warn(f"Resuming with changed {text}: {terms[key]}, was {earlier.get(key)}.")
    if changed.keys() == {"processes"}:
        warn(
            "No longer exact: the last digits of sums over the batch (and all batch statistics "
            "that are not synchronised). Order and augmentation of the samples continue as before."
        )
    elif "images" in changed or "seed" in changed:
        warn("No longer exact: the order of the samples restarts.")
    elif changed:
        warn(
            "No longer exact: batches contain different samples. The order of the samples goes "
            "on where it was; the iterations that are left are trained."
        )
    if "images" in changed:
        return 0
    return int(earlier["samples"])


def _as_lists(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
