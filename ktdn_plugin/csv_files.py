"""Writing and reading CSV files whose cells may be anybody's names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.errors import printable
from ktdn_plugin.storage.atomic import write_whole

# What spreadsheets take for the start of a formula, full-width forms included, and the apostrophe
# that keeps them from it.
_FORMULA = re.compile("['=+\\-@\uff1d\uff0b\uff0d\uff20]")
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_BACKSLASH = r"\x5c"


class CSVLine(NamedTuple):
    """A row as it was read, and the number of its last line in the file."""

    number: int
    cells: list[str]


def format_csv(rows: Iterable[Iterable[object]]) -> str:
    """Formats rows as CSV; numbers come as text already."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(
        [to_cell(str(one)) for one in row] for row in rows
    )
    return text.getvalue()


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Writes rows as a CSV file, whole or not at all.

    Raises:
        KTDNError: If it cannot be written.
    """
    content = format_csv(rows).encode()
    write_whole(path, lambda file: file.write(content))


def parse_csv(text: str) -> Iterator[CSVLine]:
    """Reads the rows of a CSV file's text.

    Raises:
        csv.Error: If it is broken.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    for cells in lines:
        yield CSVLine(lines.line_num, [from_cell(cell) for cell in cells])


def to_cell(text: str) -> str:
    r"""Writes a text as a cell: one line, valid UTF-8, and no formula to a spreadsheet.

    What :func:`~ktdn_plugin.errors.printable` escapes is escaped, control characters as ``\x0d``,
    and before what looks like a formula stands an apostrophe. :func:`from_cell` undoes both.
    """
    parts = []
    for place, letter in enumerate(text):
        if letter == "\\":
            parts.append(_BACKSLASH if _is_escape(_ESCAPE.match(text, place)) else letter)
        elif printable(letter) == letter:
            parts.append(letter)
        else:
            shown = printable(letter)
            # Not \r, \n, \t, which paths of Windows are full of.
            parts.append(f"\\x{ord(letter):02x}" if len(shown) == 2 else shown)
    cell = "".join(parts)
    return f"'{cell}" if _FORMULA.match(cell) and not _is_number(cell) else cell


def from_cell(cell: str) -> str:
    """Reads what :func:`to_cell` has written; cells of other programs stay what they are."""
    if cell[:1] == "'" and _FORMULA.match(cell, 1):
        cell = cell[1:]
    return _ESCAPE.sub(lambda found: _unescaped(found) or found.group(), cell)


def _unescaped(found: re.Match[str]) -> str | None:
    """Reads an escape; None where :func:`to_cell` writes none such."""
    number = int(found.group()[2:], 16)
    letter = chr(number) if number <= 0x10FFFF else "a"
    return letter if letter == "\\" or printable(letter) != letter else None


def _is_escape(found: re.Match[str] | None) -> bool:
    return found is not None and _unescaped(found) is not None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
