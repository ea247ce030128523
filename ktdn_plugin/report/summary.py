"""The results table of a report: a group of rows for each split, since only those compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ktdn_plugin.curves.run import Curve, Point, direction
from ktdn_plugin.report.contents import Contents, NamedRun
from ktdn_plugin.report.photos import MEASURED, Line, Photo
from ktdn_plugin.report.tables import Row

HAZY = "hazy (input)"


class Cell(NamedTuple):
    """A figure, and its iteration where the row's other figures are of other ones."""

    value: float
    at: float | None = None


class Entry(NamedTuple):
    """A row of the table.

    Attributes:
        method: Whose figures they are.
        which: What they are of: the best or the last validation, a test.
        images: Number of images, where it is known.
        cells: Figures by metric.
        competes: Whether it is a dehazed result, whose best figures are marked.
    """

    method: str
    which: str
    images: int | None
    cells: dict[str, Cell]
    competes: bool = True

    @property
    def is_input(self) -> bool:
        """Whether the figures are of the hazy images."""
        return self.method == HAZY


class Group(NamedTuple):
    """Rows whose figures are of the same images.

    Attributes:
        title: The split's name; the set's where the split has none.
        is_split: Whether it is a split's name.
        sets: What runs call it.
        entries: The rows.
    """

    title: str
    is_split: bool
    sets: list[str]
    entries: list[Entry]

    def best(self, metric: str) -> float | None:
        """Returns the best figure, if there are several to choose from and better is known."""
        cells = [entry.cells.get(metric) for entry in self.entries if entry.competes]
        values = [cell.value for cell in cells if cell and not math.isnan(cell.value)]
        sign = direction(metric)
        return max(values, key=lambda value: sign * value) if sign and len(values) > 1 else None


def summarize(contents: Contents, photos: Sequence[Photo]) -> list[Group]:
    """Puts together what runs, tables and the photographs themselves say."""
    groups: dict[str, Group] = {}
    found = [
        *(one for method, table in contents.tables for one in _of_table(method, table.rows)),
        *_of_photos(photos),
        *(one for run in contents.runs for one in _of_run(run)),
    ]
    for set_name, split, entry in found:
        title = split or set_name
        group = groups.setdefault(title, Group(title, bool(split), [], []))
        if set_name and set_name not in group.sets:
            group.sets.append(set_name)
        if not any(_says_the_same(entry, other) for other in group.entries):
            group.entries.append(entry)
    for group in groups.values():
        group.entries.sort(key=lambda entry: (entry.method != HAZY, not entry.competes))
    return list(groups.values())


def _says_the_same(entry: Entry, other: Entry) -> bool:
    """Returns whether a table repeats another one, such as a test's mean its images' table."""
    of_one = entry.method == other.method and (entry.images or 0) == (other.images or 0)
    return of_one and all(
        metric in other.cells and math.isclose(cell.value, other.cells[metric].value, abs_tol=1e-3)
        for metric, cell in entry.cells.items()
    )


SummaryRow = tuple[str, str, Entry]  # the set's name, the split's, the row


def _of_table(method: str, rows: Sequence[Row]) -> Iterator[SummaryRow]:
    """Takes the rows that are of whole sets; of images, the means."""
    kinds = dict.fromkeys((row.set, row.split, row.method) for row in rows)
    for kind in kinds:
        own = [row for row in rows if (row.set, row.split, row.method) == kind]
        images = [row for row in own if row.image]
        whole = [row for row in own if not row.image]
        count = len(images) or next((row.images for row in whole if row.images), None)
        set_name, split, named = kind
        hazy = whole[-1].hazy if whole else _means(row.hazy for row in images)
        made = whole[-1].figures if whole else _means(row.figures for row in images)
        if hazy:
            yield set_name, split, Entry(HAZY, "", count, _cells(hazy), False)
        if made:
            which = "" if images else "test"
            yield set_name, split, Entry(named or method or "dehazed", which, count, _cells(made))


def _of_photos(photos: Sequence[Photo]) -> Iterator[SummaryRow]:
    """Takes the means of what no table told; a training has said itself what it measured."""
    measured: dict[tuple[str, str], list[Line]] = {}
    for photo in photos:
        for line in photo.lines:
            if line.source == MEASURED and not line.is_validation and not photo.is_reconstructed:
                measured.setdefault((photo.split, line.method or HAZY), []).append(line)
    for (split, method), lines in measured.items():
        cells = _cells(_means(line.figures for line in lines))
        yield "", split, Entry(method, "measured here", len(lines), cells, method != HAZY)


def _of_run(named: NamedRun) -> Iterator[SummaryRow]:
    name, run, is_teacher = named
    note = "of clear images, " if is_teacher else ""
    for key in dict.fromkeys(key for key, _ in run.metrics):
        curves = {metric: curve for (one, metric), curve in run.metrics.items() if one == key}
        best = {m: point for m, curve in curves.items() if (point := _best(m, curve))}
        last = {m: curve.last for m, curve in curves.items() if curve.last}
        rows = {"best": best, "last": last} if best != last else {"best and last": last}
        for which, points in rows.items():
            if points:
                which, cells = _of_points(note + which, points)
                yield *_parted(key), Entry(name, which, None, cells, not is_teacher)
    for key in dict.fromkeys(key for key, _ in run.teacher):
        cells = {m: Cell(value) for (one, m), value in run.teacher.items() if one == key}
        entry = Entry(f"teacher of {name}", "of clear images", None, cells, False)
        yield *_parted(key), entry


def _of_points(which: str, points: dict[str, Point]) -> tuple[str, dict[str, Cell]]:
    """Returns once of which iteration figures are, if they are all of one."""
    iterations = {at for at, _ in points.values()}
    if len(iterations) == 1:
        return f"{which}, iteration {iterations.pop():,.0f}", {
            metric: Cell(value) for metric, (_, value) in points.items()
        }
    return which, {metric: Cell(value, at) for metric, (at, value) in points.items()}


def _best(metric: str, curve: Curve) -> Point | None:
    return {1: curve.highest, -1: curve.lowest}.get(direction(metric))


def _parted(key: str) -> tuple[str, str]:
    """Parts ``NAME (SPLIT)``, as runs' figures are named."""
    name, joint, split = key.partition(" (")
    return (name, split[:-1]) if joint and split.endswith(")") else (key, "")


def _means(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in figures:
        for metric, value in one.items():
            values.setdefault(metric, []).append(value)
    return {metric: math.fsum(some) / len(some) for metric, some in values.items()}


def _cells(figures: dict[str, float]) -> dict[str, Cell]:
    return {metric: Cell(value) for metric, value in figures.items()}
