"""How help looks. Imported when help is asked for: drawing it takes longer than most commands."""

from __future__ import annotations

from attrs import evolve
from cyclopts.help import HelpEntry, HelpPanel, InlineText
from cyclopts.help.formatters import DefaultFormatter
from rich.console import Console, ConsoleOptions
from rich.text import Text

from ktdn_plugin.commands.flags import DEBUG


class HelpFormatter(DefaultFormatter):
    """cyclopts's help with a flag's first spelling alone, and what all commands have at the end.

    Earlier spellings go on working for those who have them in their scripts.
    """

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Prints a panel."""
        panel.entries = sorted(map(_plain, panel.entries), key=lambda entry: DEBUG in entry.names)
        super().__call__(console, options, panel)


def help_console() -> Console:
    """Returns a console that prints no colours, which are control characters to ours."""
    return Console(color_system=None, highlight=False)


def _plain(entry: HelpEntry) -> HelpEntry:
    text = entry.description
    if isinstance(text, InlineText) and isinstance(text.primary_renderable, Text):
        # Docstrings are wrapped where they stand; a table has widths of its own.
        text.primary_renderable = Text(" ".join(text.primary_renderable.plain.split()))
    return evolve(entry, positive_names=entry.positive_names[:1])
