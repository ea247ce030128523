"""What is said of a training that goes on with other options, and where its data goes on."""

from __future__ import annotations

import pytest

from ktdn_plugin.training.resuming import (
    compare_progress,
    compare_rates,
    schedule_changes,
    schedule_plan,
)

TERMS = {"processes": 2, "batch": 8, "seed": 3, "images": 50}


@pytest.mark.parametrize(
    ("changes", "goes_on_after", "said"),
    [
        ({}, 24, ""),
        ({"processes": 1}, 24, "number of processes: 1, was 2|the last digits of sums"),
        ({"batch": 4}, 24, "samples per iteration: 4, was 8|batches contain different samples"),
        (
            {"batch": 4, "processes": 1},
            24,
            "processes: 1, was 2|iteration: 4, was 8|batches contain different samples",
        ),
        ({"seed": 4}, 24, "manual_seed: 4, was 3|the order of the samples restarts"),
        ({"images": 49}, 0, "training images: 49, was 50|the order of the samples restarts"),
        (
            {"images": 49, "processes": 1},
            0,
            "processes: 1, was 2|images: 49, was 50|the order of the samples restarts",
        ),
    ],
)
def test_the_data(changes: dict[str, int], goes_on_after: int, said: str) -> None:
    lines: list[str] = []
    earlier = {**TERMS, "samples": 24}
    after = compare_progress(earlier, {**TERMS, **changes}, lines.append, "manual_seed")
    assert after == goes_on_after
    parts = said.split("|") if said else []
    assert len(lines) == len(parts)
    assert all(part in line for part, line in zip(parts, lines, strict=True)), lines
    assert not lines or lines[-1].startswith("No longer exact: ")


def test_schedules() -> None:
    state = {"milestones": (2, 4), "gamma": 0.5, "last_epoch": 3, "base_lrs": [0.1]}
    saved = {"milestones": [2, 4], "gamma": 0.1, "last_epoch": 9, "base_lrs": [0.2]}
    assert schedule_plan(state) == {"milestones": (2, 4), "gamma": 0.5}
    changes = list(schedule_changes(schedule_plan(state), saved))
    assert changes == [("gamma", "0.5, was 0.1; the learning rate follows the new one.")]


def test_learning_rates() -> None:
    lines: list[str] = []
    compare_rates([[0.1]], [[0.1]], lines.append)
    assert lines == []
    compare_rates([[0.1]], [[0.2]], lines.append)
    assert lines == [
        "Continuing with the state's learning rates, [[0.2]], not the options', [[0.1]]."
    ]
