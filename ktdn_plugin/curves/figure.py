"""Curves of runs as one figure: a panel for each loss, the learning rates, each metric."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ktdn_plugin.curves.run import Curve, Run, direction
from ktdn_plugin.curves.thinning import moving_average
from ktdn_plugin.errors import printable
from ktdn_plugin.sheets import Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SMOOTHED_FROM = 20  # points; below, a curve is easily followed as it is
LONGEST_NAME = 32

# Okabe and Ito's colours, which people of any colour vision tell apart, without their yellow, which
# is hard to see on white: Tol's wine is in its place. More runs differ by their lines.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#882255"),
)
GRID, TEACHER = "#e5e5e5", "#595959"
LINES = ("-", "--", "-.")
MARKERS = "osD^vPXp"
DOTS_PER_INCH = 110
PANEL_WIDTH, PANEL_HEIGHT, LEGEND_LINE, HEADER = 4.8, 2.9, 0.17, 0.5  # inches


@dataclass(frozen=True)
class LineStyle:
    """What a run is called, and what its lines look like."""

    name: str
    colour: str
    line: str
    marker: str


Shown = Sequence[tuple[Run, LineStyle]]


class Panel(NamedTuple):
    """What shows one thing of all runs that have it.

    Attributes:
        kind: What it shows.
        data: Of a figure the set that it is of.
        name: Of a loss or a figure its name.
        runs: The runs that have it.
        draw: Draws it into axes, with a title, and labels for what has to be said of its lines.
    """

    kind: Literal["loss", "rate", "figure"]
    data: str
    name: str
    runs: Shown
    draw: Callable[[Axes], None]


def panels_of(shown: Shown) -> list[Panel]:
    """Lists the panels of runs: each loss, the learning rates, each validation figure."""

    panels: list[Panel] = []
    for name in _united(run.losses for run, _ in shown):
        own = [(run, look) for run, look in shown if name in run.losses]
        panels.append(Panel("loss", "", name, own, partial(_draw_loss, own, name)))
    own = [(run, look) for run, look in shown if run.rates]
    if own:
        panels.append(Panel("rate", "", "learning rate", own, partial(_draw_rates, own)))
    keys = _united([*run.metrics, *run.teacher] for run, _ in shown)
    sets = _united([name] for name, _ in keys)
    for data, name in sorted(keys, key=lambda key: sets.index(key[0])):
        key = data, name
        own = [(run, look) for run, look in shown if key in run.metrics or key in run.teacher]
        panels.append(Panel("figure", data, name, own, partial(_draw_metric, own, key)))
    return panels


def draw_figure(runs: Sequence[Run]) -> Figure:
    """Draws runs: a panel for each loss, the learning rates, and each validation figure."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    names = run_names([run.folder for run in runs])
    shown = [
        (run, style_of(i, name)) for i, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    panels = panels_of(shown)
    training = [panel.draw for panel in panels if panel.kind != "figure"]
    validation = [panel.draw for panel in panels if panel.kind == "figure"]

    columns = _columns(len(training), len(validation))
    rows = [
        group[start : start + columns]
        for group in (training, validation)
        for start in range(0, len(group), columns)
    ]
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(dpi=DOTS_PER_INCH, layout=layout)
    grid = figure.add_gridspec(len(rows), columns)
    width = columns * PANEL_WIDTH
    height = _draw_header(figure, shown, width)
    last = last_iteration(runs)
    for row, drawings in enumerate(rows):
        lines = 0
        for column, draw in enumerate(drawings):
            axes = figure.add_subplot(grid[row, column])
            draw(axes)
            style_axes(axes, last)
            axes.set_xlabel("iteration", fontsize=8)
            axes.title.set_fontsize(10)
            lines = max(lines, _add_legend(axes))
        height += PANEL_HEIGHT + lines * LEGEND_LINE
    figure.set_size_inches(width, height)
    return figure


def _draw_header(figure: Figure, shown: Shown, width: float) -> float:
    """Draws the legend of the runs' names, and returns its height."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=look.colour, ls=look.line, marker=look.marker, markersize=5)
        for _, look in shown
    ]
    names = [look.name for _, look in shown]
    columns = max(1, min(len(names), int(width / (0.6 + 0.085 * max(map(len, names))))))
    figure.legend(
        handles, names, loc="outside upper center", ncols=columns, frameon=False, fontsize=10
    )
    return HEADER + 0.2 * math.ceil(len(names) / columns)


def _draw_loss(shown: Shown, name: str, axes: Axes) -> None:
    curves = [(run.losses[name], look) for run, look in shown]
    smoothed = False
    faint = 0.3 / math.sqrt(max(1, len(curves)))  # so that those of many runs hide nothing
    for curve, look in curves:
        style: dict[str, Any] = {"color": look.colour, "linestyle": look.line}
        if len(curve.x) < SMOOTHED_FROM:
            axes.plot(curve.x, curve.y, marker=look.marker, markersize=3, **style)
        else:
            smoothed = True
            axes.plot(curve.x, curve.y, linewidth=0.8, alpha=faint, zorder=1.8, **style)
            axes.plot(curve.x, moving_average(curve.y), linewidth=1.6, **style)
        if curve.broken is not None:
            axes.plot(
                curve.broken,
                0.95,
                "x",
                color=look.colour,
                markeredgewidth=2,
                transform=axes.get_xaxis_transform(),
                label=f"{look.name}: NaN or infinite @ {curve.broken:.0f}",
            )
    axes.set_title(_text(name) + (" (bold: moving average)" if smoothed else ""))
    lowest = [curve.lowest[1] for curve, _ in curves if curve.lowest]
    if lowest and min(lowest) > 0:
        _make_logarithmic(axes)


def _draw_rates(shown: Shown, axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    def scientific(rate: float, _: object) -> str:
        figures, power = f"{rate:.2e}".split("e")
        return f"{float(figures):g}e{int(power)}" if rate else "0"

    for number, (run, look) in enumerate(shown):
        for curve in run.rates:
            # Schedules are often equal: markers in turns show the curves that others cover.
            turn = max(1, len(curve.x) // 6)
            first = turn * number // len(shown)
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": 4}
            axes.plot(curve.x, curve.y, look.line, markevery=(first, turn), **style)
    axes.set_title("learning rate")
    axes.yaxis.set_major_formatter(FuncFormatter(scientific))


def _draw_metric(shown: Shown, key: tuple[str, str], axes: Axes) -> None:
    data, metric = key
    for run, look in shown:
        curve = run.metrics.get(key)
        if curve is not None:
            axes.plot(
                curve.x,
                curve.y,
                look.line,
                color=look.colour,
                marker=look.marker,
                markersize=4,
                markevery=math.ceil(len(curve.x) / 40),
                linewidth=1.2,
                label=f"{look.name}: {summary(metric, curve)}",
            )
    # Runs that learn from one teacher share its line.
    teachers: dict[float, list[LineStyle]] = {}
    for run, look in shown:
        if key in run.teacher:
            teachers.setdefault(run.teacher[key], []).append(look)
    measured = any(run.metrics[key].last for run, _ in shown if key in run.metrics)
    low, high = axes.get_ylim()
    for value, looks in teachers.items():
        style: dict[str, Any] = {"linestyle": ":", "linewidth": 1.4, "color": TEACHER}
        label = f"teacher: {value:#.4g}"
        if len(teachers) > 1:
            style["color"], label = looks[0].colour, f"teacher of {looks[0].name}: {value:#.4g}"
        # A teacher is often so much better that, with its line, all students would look the same.
        if measured and not 1.5 * low - high / 2 <= value <= 1.5 * high - low / 2:
            axes.plot([], [], label=f"{label} ({'above' if value > high else 'below'})", **style)
        else:
            axes.axhline(value, label=label, **style)
    axes.set_title(_text(f"{metric} on {data}" if data else metric))


def _make_logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Powers of ten alone label nothing where a loss stays within one.
    if high < 5 * low:
        axes.yaxis.set_major_locator(MaxNLocator(6))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:.6g}"))


def style_axes(axes: Axes, last: float) -> None:
    """Sets what all panels have in common."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelsize=8)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _add_legend(axes: Axes) -> int:
    """Adds what has to be said of a panel's lines, and returns how many lines it takes."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        # Below, where it hides no curve however many runs there are.
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.07, -0.19),
            borderaxespad=0,
            frameon=False,
            fontsize=8,
        )
    return len(labels)


def render_pixels(figure: Figure) -> Pixels:
    """Renders a figure to an image (h, w, 3) uint8 RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def render_svg(figure: Figure, salt: str = "ktdn") -> bytes:
    """Renders a figure to SVG: text as text, and of equal figures the same file.

    Args:
        figure: The figure.
        salt: What the identifiers in it are made from; figures in one page need different ones.
    """
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=nothing)
    return content.getvalue()


def style_of(number: int, name: str) -> LineStyle:
    """Returns the line style of a run by its number among all."""
    line = LINES[number // len(COLOURS) % len(LINES)]
    # A name that starts with an underscore would hide its run from the legends.
    name = _text(f" {name}" if name.startswith("_") else name)
    return LineStyle(name, COLOURS[number % len(COLOURS)], line, MARKERS[number % len(MARKERS)])


def _text(text: str) -> str:
    return printable(text).replace("$", r"\$")  # two of them would enclose a formula


def _united(names: Iterable[Iterable[Any]]) -> list[Any]:
    return list(dict.fromkeys(name for some in names for name in some))


def _columns(training: int, validation: int) -> int:
    """Chooses the number of columns that leaves the fewest places empty."""
    most = max(training, validation)
    choices = (3, 2) if training + validation <= 6 else (3, 4)
    return min(most, min(choices, key=lambda n: -training % n + -validation % n))


def last_iteration(runs: Sequence[Run]) -> float:
    """Returns the last iteration of all, where the axes end."""
    curves = [
        curve for run in runs for curve in (*run.losses.values(), *run.rates, *run.metrics.values())
    ]
    return max((float(curve.x[-1]) for curve in curves), default=0) or 1.0


def run_names(folders: Sequence[Path]) -> list[str]:
    """Names runs after their folders, each with as many parent folders as tell it from the others.

    Long names are shortened in the middle, since runs often differ at the ends of their names.
    """
    paths = [folder.resolve().parts for folder in folders]
    names = []
    for path in paths:
        deepest = max(map(len, paths))
        depths = (d for d in range(1, deepest) if sum(p[-d:] == path[-d:] for p in paths) == 1)
        names.append(_shortened("/".join(path[-next(depths, deepest) :])))
    counts = Counter(names)
    return [
        f"{name} #{names[: number + 1].count(name)}" if counts[name] > 1 else name
        for number, name in enumerate(names)
    ]


def summary(metric: str, curve: Curve) -> str:
    """Returns how a run did: its best figure where better is known, else its last one."""
    kind, point = {
        1: ("best", curve.highest),
        -1: ("best", curve.lowest),
        0: ("last", curve.last),
    }[direction(metric)]
    return f"{kind} {point[1]:#.4g} @ {point[0]:.0f}" if point else "no finite value"


def _shortened(name: str) -> str:
    name = " ".join(name.split())
    if len(name) <= LONGEST_NAME:
        return name
    head = (LONGEST_NAME - 1) // 2
    return f"{name[:head]}…{name[head + 1 - LONGEST_NAME :]}"
