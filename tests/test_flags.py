"""The flags of all commands: documented, spelled alike, and one meaning for one name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

import pytest
from cyclopts import App
from cyclopts.annotations import resolve_annotated, resolve_optional
from cyclopts.argument import Argument

from ktdn_plugin import cli
from ktdn_plugin.commands.app import KTDN, build_app

PASSED_THROUGH = {"-opt", "--auto_resume", "--force_yml"}
"""Flags of BasicSR's scripts, which stay as BasicSR spells them."""
ONE_LETTER = {"-o"}


def commands(app: App, *names: str) -> Iterator[tuple[str, App]]:
    for name in app:
        if not name.startswith("-"):
            if app[name].default_command is None:
                yield from commands(app[name], *names, name)
            else:
                yield " ".join((*names, name)), app[name]


COMMANDS = dict(commands(build_app("ktdn", "", KTDN)))
FLAGS = [
    (command, argument)
    for command, app in COMMANDS.items()
    for argument in app.assemble_argument_collection(parse_docstring=True)
    if argument.parse and not argument.children
]
"""What each command takes, positional arguments included."""


def name_of(flag: tuple[str, Argument]) -> str:
    return " ".join((flag[0], flag[1].name))


def element_type(hint: object) -> object:
    """The type of one value: a flag may take several in one command, and one in another."""
    hint = resolve_annotated(resolve_optional(resolve_annotated(hint)))
    if get_origin(hint) is Literal:
        return "choice"
    if get_origin(hint) is None:
        return hint
    return element_type(get_args(hint)[0])


def test_all_commands_are_looked_at() -> None:
    assert {"dehaze", "train", "mmengine test", "bench transfer", "env"} <= set(COMMANDS)
    assert {"--gt", "-opt", "--device"} <= {argument.name for _, argument in FLAGS}


@pytest.mark.parametrize("flag", FLAGS, ids=name_of)
def test_a_flag_is_documented(flag: tuple[str, Argument]) -> None:
    _, argument = flag
    text = " ".join((argument.parameter.help or "").split())
    assert re.match(r"[A-Z].{5,}\.$|.*\.\.\.$", text), text
    assert "See " not in text


@pytest.mark.parametrize("flag", FLAGS, ids=name_of)
def test_a_flag_is_spelled_with_hyphens(flag: tuple[str, Argument]) -> None:
    _, argument = flag
    if argument.field_info.is_positional:
        assert argument.name.lstrip("-").isupper()
        return
    assert argument.name in PASSED_THROUGH or re.fullmatch(r"--[a-z]+(-[a-z]+)*", argument.name)
    short = {name for name in argument.names if len(name) == 2}
    assert short <= ONE_LETTER


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        pytest.param(flag, value, said, id=f"{name_of(flag)} {value}")
        for flag in FLAGS
        for kind, value, said in (
            (int, "1.5", "a whole number"), (int, "x", "a whole number"), (float, "x", "a number")
        )
        if element_type(flag[1].hint) is kind
    ],
)  # fmt: skip
def test_no_number_is_rounded_or_guessed(
    flag: tuple[str, Argument], value: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    command, argument = flag
    words = command.split()
    for other in (one for name, one in FLAGS if name == command and one.required):
        words += ["a"] if other.field_info.is_positional else [other.name, "a"]
    values = [value] * max(argument.token_count()[0], 1)
    assert cli.main([*words, argument.name, *values]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {command}: {argument.name}: '{value}' is not {said}"


def test_one_name_has_one_meaning() -> None:
    """The same type and the same first sentence; what follows may be about the command."""
    meanings: dict[str, dict[tuple[object, str], list[str]]] = {}
    for command, argument in FLAGS:
        if argument.field_info.is_positional:
            continue
        sentence = " ".join((argument.parameter.help or "").split())
        sentence = sentence.partition(". ")[0].rstrip(".")
        meaning = element_type(argument.hint), sentence
        meanings.setdefault(argument.name, {}).setdefault(meaning, []).append(command)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


def test_earlier_spellings_still_work() -> None:
    for words, name, value in (
        ("bench train --batch_size 3", "batch_size", 3),
        ("bench train --size 64", "crop_size", 64),
        ("bench data --clear here", "gt", "here"),
        ("prepare a b --clear c", "gt", "c"),
        ("prepare a b --clear_only", "clear_only", True),
        ("models --size 64x64", "sizes", ["64x64"]),
        ("haze --options x.yml", "opt", "x.yml"),
    ):
        _, bound, _ = build_app("ktdn", "", KTDN).parse_args(words, exit_on_error=False)
        given = bound.arguments[name]
        assert (given if isinstance(value, list | int) else str(given)) == value, words


@pytest.mark.parametrize("command", [*COMMANDS, "", "bench", "mmengine"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: {' '.join(('ktdn', *command.split()))} ")
    assert "--debug" in text
    if command in COMMANDS:
        flags = {word for word in re.findall(r"^│ \*? *(-[\w-]+)", text, re.MULTILINE)}
        own = {a.name for c, a in FLAGS if c == command and not a.field_info.is_positional}
        assert flags == {*own, "--debug"}
    assert max(map(len, text.splitlines())) <= 80
