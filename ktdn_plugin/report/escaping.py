"""Texts for the page, which may be anybody's names."""

from __future__ import annotations

import html

from ktdn_plugin.errors import printable


def escape(text: str) -> str:
    """Escapes a text for HTML, and in it what can hide or turn round its surroundings."""
    return html.escape(printable(text))
