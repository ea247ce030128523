"""What the results section shows beside the table: the best result, and every figure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

from ktdn_plugin.csv_files import format_csv
from ktdn_plugin.curves.run import direction
from ktdn_plugin.report.numbers import exact, heading, ordered_metrics
from ktdn_plugin.report.photos import Photo
from ktdn_plugin.report.summary import Group


class Best(NamedTuple):
    """The best result of the first split.

    Attributes:
        figures: Metrics, two at most, the result's figure, and that of its hazy images.
        title: The split's or the set's name; empty where it has none.
        method: Whose result it is.
        which: What it is of, and what it is the best of.
    """

    figures: list[tuple[str, float, float | None]]
    title: str
    method: str
    which: str


def best_result(groups: Sequence[Group]) -> Best | None:
    """Chooses the best result of the first split that has any."""
    group = next((one for one in groups if any(e.competes for e in one.entries)), None)
    if group is None:
        return None
    entries = [entry for entry in group.entries if entry.competes]
    # Tests and tables before what a training found on its way.
    entries = [entry for entry in entries if entry.images] or entries
    metrics = ordered_metrics(entry.cells for entry in entries)[:2]
    sign = direction(metrics[0]) or 1
    having = [entry for entry in entries if metrics[0] in entry.cells]
    chosen = max(having, key=lambda entry: sign * entry.cells[metrics[0]].value)
    hazy = next((entry.cells for entry in group.entries if entry.is_input), {})
    others = len({entry.method for entry in entries}) > 1
    by = f"best of {len(entries)} by {heading(metrics[0]).split()[0]}" if others else ""
    return Best(
        [
            (metric, chosen.cells[metric].value, hazy[metric].value if metric in hazy else None)
            for metric in metrics
            if metric in chosen.cells
        ],
        group.title,
        chosen.method,
        ", ".join(text for text in (chosen.which, by) if text),
    )


class Figures(NamedTuple):
    """The figures of each photograph to their last digit, as a table and as a CSV to save."""

    header: list[str]
    rows: list[list[str]]
    csv_uri: str


def all_figures(photos: Sequence[Photo]) -> Figures | None:
    """Lists the figures of each photograph; None where there is none."""
    metrics = ordered_metrics(line.figures for photo in photos for line in photo.lines)
    if not metrics:
        return None
    rows = [
        [
            *(photo.split, photo.name, line.label),
            *(exact(line.figures[metric]) if metric in line.figures else "" for metric in metrics),
            line.source,
        ]
        for photo in photos
        for line in photo.lines
    ]
    header = ["split", "photo", "image", *metrics, "source"]
    text = format_csv([header, *rows])
    uri = "data:text/csv;base64," + base64.b64encode(text.encode()).decode()
    return Figures(header, rows, uri)
