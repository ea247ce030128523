"""Reading the command line, with one line for a mistyped word that says which one was meant."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ktdn_plugin.errors import did_you_mean, printable

WRONG_USAGE = 2
"""Exit code, argparse's own."""


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that names the flag, command or value that may have been meant.

    Commands that are added to it, and theirs, are such parsers too.

    Args:
        *args: Of ``ArgumentParser``.
        program: Name of the whole program, where this is one of its commands.
        **kwargs: Of ``ArgumentParser``.
    """

    def __init__(self, *args: Any, program: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._program = program or self.prog

    def add_subparsers(self, **kwargs: Any) -> Any:
        """Adds commands, whose messages leave out the program's name."""
        kwargs.setdefault("parser_class", functools.partial(type(self), program=self._program))
        return super().add_subparsers(**kwargs)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses all there is: what is left would be wrong, and is said by whom it was given to."""
        words = list(sys.argv[1:] if args is None else args)
        # Before argparse misses what the mistyped flag should have given.
        for flag in self._unknown_flags(words):
            self._refuse_flag(flag)
        parsed, left = super().parse_known_args(words, namespace)
        for word in left:
            if word.startswith("-") and word != "--":
                self._refuse_flag(word.partition("=")[0])
        if left:
            self._refuse(f"unexpected argument '{left[0]}'; '{self.prog} --help' says what goes")
        return parsed, left

    def _unknown_flags(self, words: Sequence[str]) -> Iterator[str]:
        """Finds what argparse would take for a flag, and which is none."""
        options = self._option_string_actions
        for word in words:
            if word == "--":
                return
            if not word.startswith("-"):
                if self._subparsers is not None:
                    return  # perhaps the command, which has flags of its own
                continue
            flag = word.partition("=")[0]
            if word == "-" or " " in word or _is_number(word):
                continue
            is_short = not word.startswith("--")
            # A value may stick to a short flag; long ones may be cut short.
            if is_short and word[:2] in options:
                continue
            if not any(option.startswith(flag) for option in options):
                yield flag

    def _refuse_flag(self, flag: str) -> NoReturn:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        if not flag.startswith("--"):
            known = list(self._option_string_actions)
        hint = did_you_mean(flag, known) or f"; '{self.prog} --help' lists them"
        self._refuse(f"there is no flag {flag}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        hint = did_you_mean(value, choices)
        if isinstance(action, argparse._SubParsersAction):
            self.print_usage(sys.stderr)
            what = str(action.metavar or "command").lower()
            end = hint or f"; there are {', '.join(choices)}"
            self._refuse(f"there is no {what} '{value}'{end}")
        flag = "/".join(action.option_strings) or action.metavar or action.dest
        self._refuse(f"{flag}: '{value}' is not one of {', '.join(choices)}{hint}")

    def _refuse(self, text: str) -> NoReturn:
        command = self.prog.removeprefix(self._program).strip()
        line = f"{command}: {text}" if command else text
        self.exit(WRONG_USAGE, f"error: {printable(line)}\n")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
