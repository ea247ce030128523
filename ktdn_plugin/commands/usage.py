"""The error for a command line that cannot be parsed: one line, and what was meant."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from ktdn_plugin.commands.flags import DEBUG
from ktdn_plugin.errors import did_you_mean

WRONG_USAGE = 2
"""Exit code of a command line that cannot be understood, as shells have it."""

KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def usage_line(error: CycloptsError, program: str, names: Sequence[str], command: App) -> str:
    """Returns the line for a command line that cyclopts refuses.

    Args:
        error: What cyclopts raised.
        program: The program's name.
        names: The names of the command that was called.
        command: The command, or a group of them where none was named rightly.
    """
    ask = " ".join((program, *names, "--help"))
    line = _line(error, ask, command)
    return f"{' '.join(names)}: {line}" if names else line


def _line(error: CycloptsError, ask: str, command: App) -> str:
    unused = error.unused_tokens or []
    if isinstance(error, UnknownOptionError):
        return _no_flag(error.token.keyword or error.token.value, ask, command)
    if isinstance(error, UnknownCommandError):
        if unused[0].startswith("-"):
            return _no_flag(unused[0], ask, command)
        known = [name for name in command if not name.startswith("-")]
        hint = did_you_mean(unused[0], known) or f"; there are {', '.join(known)}"
        return f"there is no command '{unused[0]}'{hint}"
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected argument '{unused[0]}'; '{ask}' shows the usage"
    if isinstance(error, MissingArgumentError) and error.argument:
        # What is missing may have been given to a mistyped flag.
        for word in unused:
            if word.startswith("-") and word.partition("=")[0] not in _flags(command):
                return _no_flag(word, ask, command)
        if error.keyword or error.argument.tokens:
            count = error.argument.token_count()[0]
            values = f"{count} values" if count > 1 else "a value"
            return f"{error.keyword or error.argument.name} needs {values}; '{ask}' shows which"
        return f"{error.argument.name} is missing; '{ask}' explains it"
    if isinstance(error, CoercionError) and error.argument and error.token:
        choices = error.argument.get_choices()
        if choices:
            word = error.token.value
            hint = did_you_mean(word, choices)
            return f"{error.argument.name}: '{word}' is not one of {', '.join(choices)}{hint}"
        if error.target_type in KINDS:
            kind = KINDS[error.target_type]
            return f"{error.argument.name}: '{error.token.value}' is not {kind}"
    error.verbose = False
    return " ".join(str(error).split())


def _flags(command: App) -> list[str]:
    known = [DEBUG, *command.help_flags, *command.version_flags]
    if command.default_command is not None:
        known += [name for each in command.assemble_argument_collection() for name in each.names]
    return known


def _no_flag(word: str, ask: str, command: App) -> str:
    flag = word.partition("=")[0]
    known = _flags(command)
    if flag.startswith("--"):
        known = [name for name in known if name.startswith("--")]
    hint = did_you_mean(flag, known) or f"; '{ask}' lists them"
    return f"there is no flag {flag}{hint}"
