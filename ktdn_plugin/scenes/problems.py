"""Describes what is wrong with a set of images in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.errors import KTDNError

SHOWN = 10
NAMED_AT_MOST = 5


def first_of(lines: Sequence[str], where: str = "", at_most: int = SHOWN) -> str:
    """Joins the first lines into one, as many as a user would read.

    Args:
        lines: What to say.
        where: Where all of them are, which is said where some are cut off.
        at_most: How many of them.
    """
    if len(lines) <= at_most:
        return "; ".join(lines)
    more = f"; and {len(lines) - at_most} more"
    return "; ".join(lines[:at_most]) + more + (where and f" ({where})")


def some(names: Sequence[str]) -> str:
    """Lists the first of many names."""
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")


def refuse(root: Path, what: str, lines: Sequence[str], cure: str, where: str = "") -> None:
    """Refuses a folder in which something is missing.

    Args:
        root: The folder.
        what: What is wrong with it.
        lines: What is missing.
        cure: What to do about it.
        where: Where all lines are to be found, as for :func:`first_of`.

    Raises:
        KTDNError: If anything is.
    """
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise KTDNError(
            f"{root}: {what}, {count}: {first_of(lines, where)}; {cure}, or continue without them "
            "(--allow-incomplete, or allow_incomplete in options)"
        )
