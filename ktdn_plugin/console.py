"""Terminal output: no file name can hide or forge a line, or stop a command."""

from __future__ import annotations

import re
import sys
from typing import Any, TextIO

from ktdn_plugin.errors import printable

# What progress bars and coloured logs need besides text: line ends, and a step up or a colour.
_CONTROLS = re.compile(r"([\n\r\t]|\x1b\[A|\x1b\[(?:[01]|3[0-7]|9[0-7])?m)")


def print_lines(*lines: object, to_stderr: bool = False) -> None:
    """Prints each argument as one line, whatever is in it; commands print by this alone.

    Args:
        *lines: The lines. Line breaks and other control characters in them, as names may have, are
            escaped.
        to_stderr: Print to standard error.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    for line in lines:
        print(printable(str(line)), file=stream, flush=True)


def readable_size(count: int) -> str:
    """Returns a number of bytes in the unit that suits it.

    Example:
        >>> readable_size(23000)
        '22.46 KiB'
    """
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


class _SafeStream:
    """A text stream that escapes what would act on a terminal, whoever prints it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_without_controls(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_console_safe() -> None:
    """Makes standard output and error take any text, and pass on none that acts on a terminal.

    Characters that the console's encoding lacks are escaped: a redirected output on Windows is
    cp1252, and names that are not UTF-8 can be printed nowhere. Logs, warnings, progress bars and
    libraries write through the same streams. Calling it again changes nothing.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, _SafeStream):  # None: a program without a console
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _SafeStream(stream))


def _without_controls(text: str) -> str:
    if text.isprintable():
        return text
    parts = _CONTROLS.split(text)  # text and controls in turns
    parts[::2] = map(printable, parts[::2])
    return "".join(parts)
