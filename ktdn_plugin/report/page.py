"""The page: everything in one file, which asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ktdn_plugin import __version__
from ktdn_plugin.errors import printable
from ktdn_plugin.report.charts import Chart
from ktdn_plugin.report.embedding import DIFFERENCE_GAIN
from ktdn_plugin.report.numbers import exact, heading, ordered_metrics, rounded
from ktdn_plugin.report.photos import Photo
from ktdn_plugin.report.results import all_figures, best_result
from ktdn_plugin.report.summary import Group

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#0b5f8f"/>'
    '<path d="M0 7a7 7 0 0 1 7-7h9v32H7a7 7 0 0 1-7-7z" fill="#c9d6de"/>'
    '<circle cx="16" cy="16" r="5.5" fill="#fff"/></svg>'
)


def make_page(
    title: str,
    photos: Sequence[Photo],
    groups: Sequence[Group],
    charts: Sequence[Chart],
    notes: Sequence[str],
    made: date,
) -> str:
    """Writes the page.

    Args:
        title: Its title.
        photos: Photographs.
        groups: The results table.
        charts: Curves.
        notes: What is missing, one line each.
        made: The day that the page shows.

    Returns:
        HTML. Names of files and runs may hold anything: they are escaped.
    """
    environment = Environment(
        loader=PackageLoader("ktdn_plugin.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )
    environment.filters |= {
        "heading": heading,
        "ordered_metrics": ordered_metrics,
        "exact": exact,
        "rounded": lambda value, metric: rounded(metric, value),
    }
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        policy=(
            f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
            f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
        ),
        version=__version__,
        title=title,
        icon="data:image/svg+xml," + quote(ICON),
        style=Markup(style),
        script=Markup(script),
        made=made,
        dehazed=[photo for photo in photos if not photo.is_reconstructed],
        reconstructed=[photo for photo in photos if photo.is_reconstructed],
        groups=groups,
        best=best_result(groups),
        figures=all_figures(photos),
        charts=charts,
        notes=notes,
        difference_gain=DIFFERENCE_GAIN,
    )


def _without_controls(value: Any) -> Any:
    """Escapes what can hide a name's surroundings, or turn them round, in all that is inserted."""
    return printable(value) if type(value) is str else value


def _asset(name: str) -> str:
    return resources.files("ktdn_plugin.report").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """Names a script or a style for the page's policy, which allows this one alone."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
