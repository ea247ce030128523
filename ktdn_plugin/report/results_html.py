"""The section with the results table, and with every figure to take away."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from ktdn_plugin.csv_files import format_csv
from ktdn_plugin.report.escaping import escape
from ktdn_plugin.report.numbers import exact, heading, rounded, united
from ktdn_plugin.report.photos import Photo
from ktdn_plugin.report.summary import HAZY, Cell, Entry, Group, direction


def results_section(groups: Sequence[Group], photos: Sequence[Photo]) -> str:
    """Writes the table, a group of rows for each split."""
    metrics = united(entry.cells for group in groups for entry in group.entries)
    counted = any(entry.images for group in groups for entry in group.entries)
    names = "".join(f'<th scope="col" class="number">{escape(heading(m))}</th>' for m in metrics)
    count = '<th scope="col" class="number">images</th>' if counted else ""
    bodies = "\n".join(_group(group, metrics, counted) for group in groups)
    return (
        '<p class="about">Means over a set&rsquo;s images, on RGB at full size unless a name says '
        "otherwise. Only figures of one split compare; the best are bold.</p>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="Results table">'
        f'<table class="results"><thead><tr><th scope="col">method</th>{count}{names}</tr>'
        f"</thead>\n{bodies}</table></div>\n{_all_figures(photos)}"
    )


def headline(groups: Sequence[Group]) -> str:
    """Writes what the best result of the first split is, large, with that of its hazy images."""
    group = next((one for one in groups if any(e.competes for e in one.entries)), None)
    if group is None:
        return ""
    entries = [entry for entry in group.entries if entry.competes]
    # Tests and tables before what a training found on its way.
    entries = [entry for entry in entries if entry.images] or entries
    metrics = united(entry.cells for entry in entries)[:2]
    sign = direction(metrics[0]) or 1
    having = [entry for entry in entries if metrics[0] in entry.cells]
    chosen = max(having, key=lambda entry: sign * entry.cells[metrics[0]].value)
    hazy = next((entry.cells for entry in group.entries if entry.method == HAZY), {})
    items = []
    for metric in (one for one in metrics if one in chosen.cells):
        value = rounded(metric, chosen.cells[metric].value)
        unit = ' <span class="unit">dB</span>' if metric == "psnr" else ""
        before = f"hazy {rounded(metric, hazy[metric].value)}" if metric in hazy else "&nbsp;"
        items.append(
            f"<div><dt>{escape(heading(metric))}</dt><dd>{value}{unit}</dd>"
            f'<dd class="before">{before}</dd></div>'
        )
    others = len({entry.method for entry in entries}) > 1
    by = f"best of {len(entries)} by {heading(metrics[0]).split()[0]}" if others else ""
    which = ", ".join(text for text in (chosen.which, by) if text)
    return (
        f'<dl class="headline" aria-label="Best result">{"".join(items)}<div><dt>'
        f"on {escape(group.title or 'an unnamed split')}</dt><dd>{escape(chosen.method)}</dd>"
        f'<dd class="before">{escape(which)}</dd></div></dl>\n'
    )


def _group(group: Group, metrics: Sequence[str], counted: bool) -> str:
    columns = 1 + counted + len(metrics)
    title = escape(group.title) if group.title else "unnamed split"
    if group.title and not group.is_split:
        title += ' <span class="sets">unnamed split</span>'
    sets = [name for name in group.sets if name != group.title]
    if sets:
        title += f' <span class="sets">{escape(", ".join(sets))}</span>'
    rows = "\n".join(_row(entry, group, metrics, counted) for entry in group.entries)
    return (
        f'<tbody><tr><th scope="rowgroup" colspan="{columns}">{title}</th></tr>\n{rows}</tbody>\n'
    )


def _row(entry: Entry, group: Group, metrics: Sequence[str], counted: bool) -> str:
    kind = "" if entry.competes else ' class="input"' if entry.method == HAZY else ' class="beside"'
    which = f'<span class="which">{escape(entry.which)}</span>' if entry.which else ""
    cells = [f'<th scope="row">{escape(entry.method)}{which}</th>']
    if counted:
        cells.append(f'<td class="number">{entry.images or ""}</td>')
    for metric in metrics:
        best = entry.competes and group.best(metric)
        cells.append(_cell(metric, entry.cells.get(metric), best))
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _cell(metric: str, cell: Cell | None, best: float | bool | None) -> str:
    if cell is None:
        return '<td class="number"></td>'
    mark = " best" if best is not False and cell.value == best else ""
    at = f'<span class="at">at {cell.at:,.0f}</span>' if cell.at is not None else ""
    text = rounded(metric, cell.value)
    return f'<td class="number{mark}" data-value="{exact(cell.value)}">{text}{at}</td>'


def _all_figures(photos: Sequence[Photo]) -> str:
    """Writes the figures of each photograph to their last digit, and as a CSV to save."""
    metrics = united(line.figures for photo in photos for line in photo.lines)
    if not metrics:
        return ""
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
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        '<details class="exact"><summary>Figures of each photograph</summary>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Figures of each photograph">'
        f"<table><thead><tr>{names}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        f'<p><a download="figures.csv" href="{uri}">Save them as CSV</a></p></details>'
    )
