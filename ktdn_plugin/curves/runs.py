"""What training runs have logged: the curves of ``metrics.jsonl`` in a run's folder."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktdn_plugin.curves.run import Curve, Point, Run, Test, number_of
from ktdn_plugin.curves.thinning import Values, thin
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.training.run_log import METRICS, OTHERS, read_records

EXPECTED = "expected a run's folder, such as experiments/NAME or work_dirs/NAME"
HOMES = ("experiments", "work_dirs")  # where the commands put runs
NOTHING_YET = "the run has not logged anything yet; let it train for a while"
EARLIER = (
    "a run of an earlier version, logged only by mmengine; resume it, or train it again, to "
    "get its curves"
)
# Of such a run.
EARLIER_LOGS = "*/vis_data/scalars.json"
MOST_LISTED = 8


def read_run(folder: Path) -> Run:
    """Reads what a run has logged.

    What a resumed training repeats takes the place of what was logged before.

    Args:
        folder: The run's folder.

    Raises:
        KTDNError: The folder is not a run's, or its log is broken or has nothing to draw yet. A
            last line that is cut short, as of a training that was killed, is none of these.
    """
    log_of(folder)
    losses, rates, metrics = _Logged(), _Logged(), _Logged()
    teacher: dict[tuple[str, str], float] = {}
    test: Test | None = None
    for record in read_records(folder):
        kind, iteration = record["kind"], float(record["iter"])
        if kind == "train":
            for name, value in record.items():
                if name.startswith("l_"):
                    losses.add(name, iteration, value)
            of_groups = record.get("lr", [])
            for group, rate in enumerate(of_groups if isinstance(of_groups, list) else [of_groups]):
                rates.add(group, iteration, rate)
        elif kind in ("val", "teacher"):
            for name in (name for name in record if name not in OTHERS):
                key, value = (_set_of(record), name), number_of(record[name])
                if kind == "val":
                    metrics.add(key, iteration, record[name])
                elif value is not None and math.isfinite(value):
                    teacher[key] = value
        elif kind == "test":
            test = _test_of(record)
    run = Run(folder, losses.curves(), [*rates.curves().values()], metrics.curves(), teacher, test)
    if not (run.has_curves or test):
        raise KTDNError(f"{folder / METRICS}: {NOTHING_YET}")
    return run


def _test_of(record: dict[str, Any]) -> Test:
    numbers = {key: number_of(value) for key, value in record.items() if key not in OTHERS}
    figures = {key: value for key, value in numbers.items() if value is not None}
    images = record.get("images")
    return Test(
        str(record.get("split") or ""), images if isinstance(images, int) else None, figures
    )


def _set_of(record: dict[str, Any]) -> str:
    """Names a validation set with its split: figures of different ones are different figures."""
    name, split = str(record.get("set", "")), record.get("split")
    return f"{name} ({split})" if split else name


class _Logged(defaultdict[Any, tuple["array[float]", "array[float]"]]):
    """Points of several figures, as compact as arrays."""

    def __init__(self) -> None:
        super().__init__(lambda: (array("d"), array("d")))

    def add(self, key: object, iteration: float, value: object) -> None:
        # JSON's null is what a training writes of a figure that was not finite.
        number = math.nan if value is None and key in self else number_of(value)
        if number is None:
            return
        x, y = self[key]
        while x and x[-1] >= iteration:  # resumed from an earlier state
            x.pop()
            y.pop()
        x.append(iteration)
        y.append(number)

    def curves(self) -> dict[Any, Curve]:
        return {key: _curve(np.array(x), np.array(y)) for key, (x, y) in self.items()}


def _curve(x: Values, y: Values) -> Curve:
    finite = np.isfinite(y)
    fx, fy = x[finite], y[finite]
    ends = (fy.argmax(), fy.argmin(), -1) if fy.size else ()
    points: list[Point | None] = [(float(fx[i]), float(fy[i])) for i in ends]
    highest, lowest, last = points or (None, None, None)
    broken = None if finite.all() else float(x[finite.argmin()])
    return Curve(*thin(x, y), highest, lowest, last, broken)


def log_of(folder: Path) -> Path:
    """Finds a run's log.

    Raises:
        KTDNError: If the folder is not a run's; it says which ones are near.
    """
    log = _own_log(folder)
    if log is not None:
        return log
    if any(folder.glob(EARLIER_LOGS)):
        raise KTDNError(f"{folder}: has no {METRICS}: {EARLIER}")
    owner = next((parent for parent in folder.parents if _own_log(parent)), None)
    if owner is not None and folder.exists():
        raise KTDNError(f"{folder}: lies inside a run; give the run's folder: {owner}")
    inside = next(filter(None, (_runs_in(folder / home) for home in ("", *HOMES))), [])
    if inside:
        raise KTDNError(f"{folder}: not a run itself; give one or more of: {_listed(inside)}")
    if folder.is_dir():
        wrong = f"has no {METRICS}"
    else:
        wrong = "is a file" if folder.exists() else "there is no such folder"
    guess = next((Path(home, folder) for home in HOMES if _own_log(Path(home, folder))), None)
    if guess is not None:
        hint = f"; did you mean '{guess}'?"
    else:
        beside = _runs_in(folder.parent)
        hint = did_you_mean(folder.name, [run.name for run in beside])
        if beside and not hint:
            hint = f"; runs beside it: {_listed(beside)}"
    raise KTDNError(f"{folder}: {wrong}; {EXPECTED}{hint}")


def _runs_in(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("*/") if _own_log(one))


def _own_log(folder: Path) -> Path | None:
    log = folder / METRICS
    return log if log.is_file() else None


def _listed(runs: Sequence[Path]) -> str:
    more = len(runs) - MOST_LISTED
    return ", ".join(map(str, runs[:MOST_LISTED])) + (f" and {more} more" if more > 0 else "")
