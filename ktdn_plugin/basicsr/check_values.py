"""What the checks of options are made of: kinds of values, unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ktdn_plugin.errors import did_you_mean

Kind = tuple[Callable[[Any], bool], str]
"""What a value must fulfil, and how that is said."""


def whole(minimum: int, maximum: int | None = None) -> Kind:
    """Returns the kind of whole numbers from a minimum on, up to a maximum if there is one."""

    def fits(value: Any) -> bool:
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and minimum <= value
            and (maximum is None or value <= maximum)
        )

    limit = "" if maximum is None else f" and at most {maximum}"
    return fits, f"a whole number, at least {minimum}{limit}"


def keys_are_text(section: Any, where: str = "", depth: int = 3) -> list[str]:
    """Names the keys that are no texts, of a section and those within it.

    Args:
        section: The section; anything but a mapping has no keys.
        where: The section's own place, with a dot behind it.
        depth: How far down; what lies deeper is the business of who reads it.
    """
    if not isinstance(section, dict) or not depth:
        return []
    problems = [
        f"{where}{key}: a key must be a text; put it in quotes"
        for key in section
        if not isinstance(key, str)
    ]
    for key, value in section.items():
        problems += keys_are_text(value, f"{where}{key}.", depth - 1)
    return problems


def is_folder_name(value: str) -> bool:
    """Returns whether a text can name a folder without leading anywhere else."""
    return 0 < len(value) <= 150 and value[0] != "." and not set(value) & set("/\\\0")


FLAG = (lambda value: isinstance(value, bool)), "true or false"
TEXT = (lambda value: isinstance(value, str) and bool(value)), "a text"
SECTION = (lambda value: isinstance(value, dict)), "a section of 'key: value' lines"
POSITIVE = (
    lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
    ),
    "a number above 0",
)
SHARE = (
    (lambda value: isinstance(value, (int, float)) and 0 <= value < 1),
    "a number from 0 to below 1",
)


def check_types(section: Mapping[str, Any], types: Mapping[str, Kind], where: str) -> list[str]:
    """Names the values of a section that are of the wrong kind.

    Args:
        section: The section.
        types: The kind of each key; a dot leads into a section of it.
        where: The section's own place, with a dot behind it.
    """
    problems = []
    for path, (fits, wanted) in types.items():
        value: Any = section
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not fits(value):
            problems.append(f"{where}{path}: {value!r} must be {wanted}")
    return problems


def unknown_keys(
    section: Any,
    known: Collection[str],
    where: str,
    allow: Callable[[str], bool] = lambda key: False,
    only_mistyped: bool = False,
) -> list[str]:
    """Names the keys of a section that are not known, with suggestions.

    Args:
        section: The section; anything but a mapping has no keys.
        known: The keys there are.
        where: The section's own place, with a dot behind it.
        allow: Accepts further keys.
        only_mistyped: Take a key for another plugin's unless it is nearly one of the known ones.
    """
    if not isinstance(section, dict):
        return []
    return [
        f"{where}{key}: unknown key{did_you_mean(key, known)}"
        for key in section
        if key not in known
        and not allow(str(key))
        and (not only_mistyped or _is_mistyped(str(key), known))
    ]


def _is_mistyped(key: str, known: Collection[str]) -> bool:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    return bool(near) and not key.startswith(near[0])  # 'scale2' is a name of its own
