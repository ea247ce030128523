"""Curves of runs as inline SVG, whose colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ktdn_plugin.curves.figure import SMOOTHED_FROM, summary
from ktdn_plugin.curves.run import Curve
from ktdn_plugin.curves.thinning import Values, moving_average, thin
from ktdn_plugin.report.axes import LOGARITHMIC_FROM, Axis, linear_axis, log_axis, short
from ktdn_plugin.report.contents import NamedRun
from ktdn_plugin.report.escaping import escape

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26
MOST_POINTS = 300  # a chart is about as many pixels wide
MOST_DOTS = 40
COLOURS = 8  # that the page's style sheet has; further runs differ by their lines
NAMED = {"l_rec": "reconstruction", "l_lap": "Laplacian", "l_kt": "knowledge transfer"}
NAMED |= {"l_ssim": "SSIM loss", "l_lab": "Lab loss", "l_perceptual": "perceptual loss"}
NAMED |= {f"loss_{name[2:]}": text for name, text in NAMED.items()}


class Legend(NamedTuple):
    """What a curve is: its look, as a class of the style sheet, and a text."""

    look: str
    text: str


class Chart(NamedTuple):
    """A chart.

    Attributes:
        title: What it shows.
        svg: The drawing.
        legend: What its lines are.
    """

    title: str
    svg: str
    legend: list[Legend]


class _Line(NamedTuple):
    look: str
    text: str
    curve: Curve
    is_smoothed: bool
    has_dots: bool


def draw_charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """Draws a chart for each validation figure, each loss, and the learning rates.

    Args:
        runs: The runs; each has its colour in all charts.
    """
    charts = [
        _metric_chart(runs, key)
        for key in _united([*one.run.metrics, *one.run.teacher] for one in runs)
    ]
    for name in _united(one.run.losses for one in runs):
        lines = [
            _Line(
                _look(n), label, run.losses[name], len(run.losses[name].x) >= SMOOTHED_FROM, False
            )
            for n, (label, run, _) in enumerate(runs)
            if name in run.losses
        ]
        text = NAMED.get(name)
        charts.append(_chart(f"{text} loss ({name})" if text else name, lines, may_be_log=True))
    lines = [
        _Line(_look(n), label, curve, False, False)
        for n, (label, run, _) in enumerate(runs)
        for curve in run.rates
    ]
    charts.append(_chart("learning rate", lines))
    return [chart for chart in charts if chart is not None]


def _metric_chart(runs: Sequence[NamedRun], key: tuple[str, str]) -> Chart | None:
    data, metric = key
    lines = [
        _Line(_look(n), _described_run(one, key), one.run.metrics[key], False, True)
        for n, one in enumerate(runs)
        if key in one.run.metrics
    ]
    teachers: dict[float, list[str]] = {}  # runs that learn from one teacher share its line
    for label, run, _ in runs:
        if key in run.teacher:
            teachers.setdefault(run.teacher[key], []).append(label)
    name = metric.upper() if metric in ("psnr", "ssim", "lpips", "niqe") else metric
    unit = " in dB" if metric == "psnr" else ""
    return _chart(f"{name}{unit} on {data}" if data else f"{name}{unit}", lines, teachers)


def _described_run(named: NamedRun, key: tuple[str, str]) -> str:
    what = ", of clear images" if named.is_teacher else ""
    return f"{named.name}{what}: {summary(key[1], named.run.metrics[key])}"


def _chart(
    title: str,
    lines: Sequence[_Line],
    teachers: Mapping[float, Sequence[str]] = MappingProxyType({}),
    may_be_log: bool = False,
) -> Chart | None:
    ends = [
        point[1] for line in lines for point in (line.curve.lowest, line.curve.highest) if point
    ]
    x_ends = [float(x) for line in lines for x in (line.curve.x[0], line.curve.x[-1])]
    if not ends:
        return None
    y_axis = _value_axis(ends, may_be_log)
    x_axis = linear_axis([0.0, max(x_ends)], 4, whole=True)._replace(low=0.0, high=max(x_ends) or 1)
    legend = [Legend(line.look, line.text) for line in lines]
    marks = []
    for value, labels in teachers.items():
        of = f" of {', '.join(labels)}" if len(lines) > 1 else ""
        text = f"teacher{of}: {value:#.4g}"
        # A teacher is often so much better that, with its line, all students would look the same.
        beyond = "" if 0 <= y_axis.at(value) <= 1 else " (above)" if value > ends[0] else " (below)"
        legend.append(Legend("teacher", text + beyond))
        if not beyond:
            y = _y(y_axis, value)
            marks.append(f'<path class="line teacher" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
    for line in lines:
        if line.curve.broken is not None:
            x = _x(x_axis, line.curve.broken)
            text = f"{line.text}: NaN or infinite @ {line.curve.broken:.0f}"
            legend.append(Legend(line.look, text))
            marks.append(f'<path class="line {line.look}" d="M{x} {TOP}v12"/>')
    drawn = "".join(_curve(line, x_axis, y_axis) for line in lines)
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(_described(title, legend))}">'
        f"{_grid(x_axis, y_axis)}{''.join(marks)}{drawn}</svg>"
    )
    return Chart(title, svg, legend)


def _described(title: str, legend: Sequence[Legend]) -> str:
    return f"Chart of {title} over iterations. " + "; ".join(one.text for one in legend)


def _value_axis(ends: Sequence[float], may_be_log: bool) -> Axis:
    if may_be_log and min(ends) > 0 and max(ends) > LOGARITHMIC_FROM * min(ends):
        return log_axis(ends)
    return linear_axis(ends)


def _grid(x_axis: Axis, y_axis: Axis) -> str:
    parts = []
    for tick in y_axis.ticks:
        y = _y(y_axis, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy=".32em" class="end">{short(tick)}</text>')
    for tick in x_axis.ticks:
        if tick > x_axis.high:
            continue
        x = _x(x_axis, tick)
        where = "end" if x_axis.at(tick) > 0.95 else "middle"  # so that it stays inside
        parts.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 15}" class="{where}">{short(tick)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    return "".join(parts)


def _curve(line: _Line, x_axis: Axis, y_axis: Axis) -> str:
    x, y = thin(line.curve.x, line.curve.y, MOST_POINTS)
    parts = []
    if line.is_smoothed:
        parts.append(f'<path class="line raw {line.look}" d="{_path(x, y, x_axis, y_axis)}"/>')
        y = moving_average(y)
    parts.append(f'<path class="line {line.look}" d="{_path(x, y, x_axis, y_axis)}"/>')
    if line.has_dots and len(x) <= MOST_DOTS:
        parts += [
            f'<circle class="dot {line.look}" cx="{_x(x_axis, at)}" cy="{_y(y_axis, value)}" '
            f'r="2.6"><title>{value:.4f} @ {at:.0f}</title></circle>'
            for at, value in zip(x, y, strict=True)
            if math.isfinite(value)
        ]
    return "".join(parts)


def _path(x: Values, y: Values, x_axis: Axis, y_axis: Axis) -> str:
    """Joins points; where there is no value, the line is broken."""
    steps, pen = [], "M"
    for at, value in zip(x, y, strict=True):
        if not math.isfinite(value):
            pen = "M"
            continue
        steps.append(f"{pen}{_x(x_axis, at)} {_y(y_axis, value)}")
        pen = "L"
    return "".join(steps)


def _x(axis: Axis, value: float) -> str:
    return _places(LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT))


def _y(axis: Axis, value: float) -> str:
    return _places(HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM))


def _places(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _look(number: int) -> str:
    line = number // COLOURS % 3
    return f"c{number % COLOURS}" + (f" dash{line}" if line else "")


def _united(names: Iterable[Iterable[Any]]) -> list[Any]:
    return list(dict.fromkeys(name for some in names for name in some))
