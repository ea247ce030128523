"""Curves of runs as inline SVG, drawn as ``ktdn curves`` does, in the page's own colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from ktdn_plugin.curves.figure import (
    COLOURS,
    GRID,
    SMOOTHED_FROM,
    TEACHER,
    LineStyle,
    Panel,
    last_iteration,
    panels_of,
    render_svg,
    style_axes,
    style_of,
)
from ktdn_plugin.errors import printable
from ktdn_plugin.metrics import TITLES
from ktdn_plugin.report.contents import NamedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 340, 210  # of SVG's units
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26
LOSSES = {"l_rec": "reconstruction", "l_lap": "Laplacian", "l_kt": "knowledge transfer"}
LOSSES |= {"l_ssim": "SSIM loss", "l_lab": "Lab loss", "l_perceptual": "perceptual loss"}
AXIS = "#808080"
# The style sheet has them for light and dark pages, and for paper.
VARIABLES = {colour.lower(): f"var(--c{number})" for number, colour in enumerate(COLOURS)}
VARIABLES |= {GRID: "var(--line)", AXIS: "var(--faint)", TEACHER: "var(--soft)"}
DASHES = {"--": "6 4", "-.": "7 3 1.5 3", ":": "1.5 4"}


class Legend(NamedTuple):
    """What a line is: its colour and dashes, for SVG's attributes, and a text."""

    colour: str
    dashes: str
    text: str


class Chart(NamedTuple):
    """A chart.

    Attributes:
        title: What it shows.
        svg: The drawing, safe to put into a page.
        legend: What its lines are.
        is_averaged: Whether bold lines are averages of faint ones.
    """

    title: str
    svg: Markup
    legend: list[Legend]
    is_averaged: bool


def draw_charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """Draws a chart for each validation figure, each loss, and the learning rates.

    Args:
        runs: The runs; each has its colour in all charts.
    """
    import matplotlib

    shown = [
        (one.run, style_of(number, one.name + (", of clear images" if one.is_teacher else "")))
        for number, one in enumerate(runs)
    ]
    last = last_iteration([run for run, _ in shown])
    # The user's own defaults, such as a dark style, would not go with the page's colours.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        panels = sorted(panels_of(shown), key=lambda panel: panel.kind != "figure")
        return [_draw(panel, last, number) for number, panel in enumerate(panels)]


def _draw(panel: Panel, last: float, number: int) -> Chart:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    inner = (WIDTH - LEFT - RIGHT) / WIDTH, (HEIGHT - TOP - BOTTOM) / HEIGHT
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, *inner))
    panel.draw(axes)
    style_axes(axes, last)
    axes.set_title("")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    axes.grid(visible=False, axis="x")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(AXIS)
    axes.tick_params(length=0, pad=6)
    handles: Any
    handles, labels = axes.get_legend_handles_labels()
    legend = [_legend(look.colour, look.line, look.name) for look in _unnamed(panel)]
    legend += [
        # What is marked by a cross has no line.
        _legend(handle.get_color(), handle.get_linestyle().replace("None", "-"), label)
        for handle, label in zip(handles, labels, strict=True)
    ]
    legend = [one._replace(text=one.text.replace(r"\$", "$")) for one in legend]
    title = _title(panel)
    told = f"Chart of {title} over iterations. " + "; ".join(one.text for one in legend)
    is_averaged = panel.kind == "loss" and any(
        len(run.losses[panel.name].x) >= SMOOTHED_FROM for run, _ in panel.runs
    )
    return Chart(title, _inline(figure, f"chart {number}", printable(told)), legend, is_averaged)


def _unnamed(panel: Panel) -> list[LineStyle]:
    """Lists the looks that no label names: figures' curves have labels that say how runs did."""
    return [] if panel.kind == "figure" else [look for _, look in panel.runs]


def _legend(colour: str, line: str, text: str) -> Legend:
    return Legend(VARIABLES[colour.lower()], DASHES.get(line, "none"), text)


def _title(panel: Panel) -> str:
    if panel.kind == "loss":
        text = LOSSES.get(panel.name)
        return f"{text} loss ({panel.name})" if text else panel.name
    name = TITLES.get(panel.name, panel.name) + (" in dB" if panel.name == "psnr" else "")
    return f"{name} on {panel.data}" if panel.data else name


def _inline(figure: Figure, salt: str, told: str) -> Markup:
    """Turns matplotlib's SVG into one for the page, whose policy allows no style in the markup."""
    tree = ElementTree.fromstring(render_svg(figure, salt))
    for element in list(tree.iter()):
        element.tag = element.tag.rpartition("}")[2]
        element.text, element.tail = (element.text or "").strip(), ""
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        declarations = (one.split(":", 1) for one in attributes.pop("style", "").split(";") if one)
        style = {key.strip(): value.strip() for key, value in declarations}
        if element.tag == "text":  # the style sheet has the font
            style = {"text-anchor": style.get("text-anchor", "start")}
        attributes |= {key: VARIABLES.get(value, value) for key, value in style.items()}
        attributes.pop("clip-path", None)  # nothing lies outside
        if "d" in attributes:
            attributes["d"] = _rounded(" ".join(attributes["d"].split()))
        if not (attributes.get("id", "").startswith("m") and element.tag == "path"):
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib.update(attributes)
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style", "clipPath") or _is_background(child):
                parent.remove(child)
    tree.attrib.clear()
    tree.attrib.update(
        {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": told},
    )
    return Markup(ElementTree.tostring(tree, encoding="unicode"))


def _is_background(element: ElementTree.Element) -> bool:
    return element.get("fill") == "#ffffff"


def _rounded(numbers: str) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", numbers)
