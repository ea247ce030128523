"""What a check finds: one line for the user, and what a picture of it would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ktdn_plugin.scenes.names import Side

Severity = Literal["error", "warning"]

KINDS = {
    "unreadable": "cannot be read",
    "store": "wrong in the store itself",
    "missing": "missing, or without a partner",
    "size": "different size",
    "scene": "not the same scene",
    "shifted": "shifted against each other",
    "turned": "mirrored or turned",
    "no-haze": "without haze",
    "swapped": "hazy and clear exchanged",
    "duplicate": "the same picture twice",
    "values": "suspicious values",
}
"""Kinds of findings, in the order in which a summary names them."""


@dataclass(frozen=True)
class Picture:
    """One image of a row to look at.

    Attributes:
        owner: Number of the set.
        side: Which side of it.
        number: Which image of the side.
        mirrored: Whether it is to be shown mirrored.
    """

    owner: int
    side: Side
    number: int
    mirrored: bool = False


@dataclass(frozen=True)
class Row:
    """What a contact sheet shows of a finding.

    Attributes:
        first: The hazy image, or the first of two duplicates.
        second: The clear image, or the second of two duplicates.
        verdict: A few words for the caption.
        better: The clear image that matches better, where there is one.
        badness: Rows of a sheet are sorted by it, the highest first.
    """

    first: Picture
    second: Picture
    verdict: str
    better: Picture | None = None
    badness: float = 0.0


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or may be.

    Attributes:
        kind: One of ``KINDS``.
        severity: ``error`` or ``warning``.
        text: One line that names the files, the figures and what to do.
        row: What to look at, where looking helps.
    """

    kind: str
    severity: Severity
    text: str
    row: Row | None = None

    def __str__(self) -> str:
        return f"{self.severity} [{self.kind}] {self.text}"
