"""The page: everything in one file, which asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from importlib import resources
from string import Template
from urllib.parse import quote

from ktdn_plugin import __version__
from ktdn_plugin.report.charts import Chart
from ktdn_plugin.report.escaping import escape
from ktdn_plugin.report.photo_html import photo_section
from ktdn_plugin.report.photos import Photo
from ktdn_plugin.report.results_html import headline, results_section
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
    dehazed = [photo for photo in photos if not photo.is_reconstructed]
    given_back = [photo for photo in photos if photo.is_reconstructed]
    reconstructed = photo_section(given_back, len(dehazed) + 1) if given_back else ""
    sections = [
        ("photographs", "Photographs", photo_section(dehazed) if dehazed else ""),
        ("results", "Results", results_section(groups, photos) if groups else ""),
        ("reconstructed", "The teacher&rsquo;s reconstructions", reconstructed),
        ("curves", "Curves", _curves(charts) if charts else ""),
        ("missing", "Not shown", _missing(notes) if notes else ""),
    ]
    shown = [section for section in sections if section[2]]
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in shown)
    return Template(_asset("page.html")).substitute(
        policy=policy,
        generator=f"ktdn-plugin {__version__}",
        title=escape(title),
        icon="data:image/svg+xml," + quote(ICON),
        style=style,
        eyebrow="Dehazing report",
        lead=_lead(dehazed, groups, made),
        headline=headline(groups),
        nav=f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(shown) > 1 else "",
        main="\n".join(
            f'<section id="{name}" class="{name}" aria-labelledby="{name}-heading">'
            f'<h2 id="{name}-heading">{heading}</h2>\n{content}\n</section>'
            for name, heading, content in shown
        ),
        footer=f"Made by <code>ktdn report</code>, ktdn-plugin {__version__}.",
        script=script,
    )


def _asset(name: str) -> str:
    return resources.files("ktdn_plugin.report").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """Names a script or a style for the page's policy, which allows this one alone."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _lead(photos: Sequence[Photo], groups: Sequence[Group], made: date) -> str:
    splits = [group.title for group in groups if group.is_split]
    parts = []
    if splits:
        named = ", ".join(escape(split) for split in splits)
        parts.append(f"{'Splits' if len(splits) > 1 else 'Split'} {named}")
    if photos:
        parts.append(f"{len(photos)} photograph{'s' if len(photos) > 1 else ''}")
    parts.append(f'<time datetime="{made.isoformat()}">{made.day} {made:%B %Y}</time>')
    return " · ".join(parts)


def _curves(charts: Sequence[Chart]) -> str:
    figures = "".join(
        f'<figure class="chart"><h3>{escape(chart.title)}</h3>{chart.svg}'
        f'<ul class="legend">{"".join(_legend(*one) for one in chart.legend)}</ul></figure>'
        for chart in charts
    )
    is_averaged = any("line raw" in chart.svg for chart in charts)
    averaged = " Losses are faint as they were logged, bold averaged." if is_averaged else ""
    return (
        f'<p class="about">Over the training&rsquo;s iterations.{averaged}</p>\n'
        f'<div class="charts">{figures}</div>'
    )


def _legend(look: str, text: str) -> str:
    swatch = (
        f'<svg viewBox="0 0 22 8" aria-hidden="true"><path class="line {look}" d="M1 4H21"/></svg>'
    )
    return f"<li>{swatch}<span>{escape(text)}</span></li>"


def _missing(notes: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"
