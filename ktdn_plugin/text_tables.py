"""Tables for terminals, pipes and Markdown: whole whatever the width, names left, numbers right."""

from __future__ import annotations

from collections.abc import Sequence

from ktdn_plugin.errors import printable


def table_lines(rows: Sequence[Sequence[str]], align: str = "l") -> list[str]:
    """Formats rows as the lines of a table.

    Nothing is cut or wrapped, in narrow terminals as in pipes.

    Args:
        rows: The cells, headings first where there are any.
        align: ``l`` or ``r`` for each column: text stands to the left, numbers to the right. The
            columns that it is too short for are ``r``.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for letter in align.ljust(len(rows[0]), "r"):
        grid.add_column(justify="left" if letter == "l" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(color_system=None, force_terminal=False, width=1)
    console.width = console.measure(grid, options=console.options.update(width=10**6)).maximum
    with console.capture() as captured:
        console.print(grid)
    return [line.rstrip() for line in captured.get().splitlines()]


def markdown_lines(rows: Sequence[Sequence[str]], align: str = "l") -> list[str]:
    """Formats rows, headings first, as the lines of a table in Markdown.

    Args:
        rows: The cells, which may hold Markdown.
        align: As in :func:`table_lines`.
    """
    rules = {"l": "---", "r": "---:"}
    rule = [rules[letter] for letter in align.ljust(len(rows[0]), "r")]
    return [f"| {' | '.join(cells)} |" for cells in (rows[0], rule, *rows[1:])]
