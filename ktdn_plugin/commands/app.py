"""The commands' names, and the programs made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from cyclopts import App, Group, Parameter

from ktdn_plugin import __version__
from ktdn_plugin.commands.flags import DEBUG, Debug
from ktdn_plugin.commands.usage import WRONG_USAGE
from ktdn_plugin.console import print_lines

VERSION = f"ktdn-plugin {__version__}"
Commands = Mapping[str, Mapping[str, str]]
"""Groups of commands, as the help shows them: each command's function, as ``MODULE:FUNCTION`` in
``ktdn_plugin.commands``. A module without a function is a group of commands itself."""

TRAINING = {"train": "train:train", "test": "train:test"}
BASICSR: Commands = {"Training": TRAINING}
KTDN: Commands = {
    "Photographs": {
        "dehaze": "dehaze:dehaze",
        "serve": "serve:serve",
        "models": "models:models",
        "demo": "demo:demo",
    },
    "Training": {
        **TRAINING,
        "mmengine": "mmengine",
        "options": "options:options",
        "curves": "curves:curves",
        "report": "report:report",
        "install-basicsr": "install_basicsr:install_basicsr",
    },
    "Datasets": {
        "prepare": "prepare:prepare",
        "check-data": "check_data:check_data",
        "haze": "haze:haze",
    },
    "Measuring": {
        "evaluate": "evaluate:evaluate",
        "bench": "bench",
        "env": "env:env",
    },
    "Checkpoints and other programs": {
        "info": "info:info",
        "convert": "convert:convert",
        "export": "export:export",
        "comfyui": "comfyui:comfyui",
        "shim": "shim:shim",
    },
}
GROUPS = {
    "mmengine": (
        "Train and test with an mmengine config.",
        {"train": "mmengine:train", "test": "mmengine:measure"},
    ),
    "bench": (
        "Benchmark KTDN on this machine.",
        {name: f"bench:{name}" for name in ("train", "data", "dehaze", "transfer")},
    ),
}


def build_app(program: str, text: str, commands: Commands) -> App:
    """Builds a program whose commands' modules are imported when they are needed.

    Args:
        program: Its name.
        text: What it is.
        commands: Its commands.
    """
    app = App(
        name=program,
        help=text,
        version=VERSION,
        # Errors are raised, and said by ``cli``; a console for them would load rich all the same.
        error_console=cast(Any, object()),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # commands say what an interruption has left
        group_commands=Group("Flags", sort_key=len(commands)),  # those of every command: --help
        group_parameters=Group("Flags", sort_key=len(commands)),
        default_parameter=Parameter(
            negative=(),
            consume_multiple=(1, None),
            allow_repeating=True,
            show_default=_shown_default,
        ),
    )
    for place, (title, members) in enumerate(commands.items()):
        _add(app, members, Group(title, sort_key=place))

    app.meta.suppress_keyboard_interrupt = False

    @app.meta.default
    def run(
        *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        debug: Debug = False,
        local_rank: Annotated[int | None, Parameter(name="--local_rank", show=False)] = None,
    ) -> int:
        if local_rank is not None:  # from old launchers; newer ones set the variable
            os.environ.setdefault("LOCAL_RANK", str(local_rank))
        # Cyclopts takes "-", standard input and output, for a flag; these are the same path.
        tokens = ["./-" if word == "-" else word for word in words]
        function, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        return function(*bound.args, **bound.kwargs) or 0

    return app


def _add(app: App, members: Mapping[str, str], group: Group) -> None:
    for place, (name, target) in enumerate(members.items()):
        where: dict[str, Any] = {"group": group, "sort_key": place}
        if ":" in target:
            app.command(f"ktdn_plugin.commands.{target}", name=name, **where)
        else:
            text, stages = GROUPS[target]
            nested = App(name=name, help=text, **where)
            _add(nested, stages, Group("Commands", sort_key=0))
            app.command(nested)


def command_of(app: App, words: Sequence[str]) -> tuple[tuple[str, ...], App]:
    """Returns the names of the command that a command line calls, and its program.

    Args:
        app: The whole program.
        words: The command line.
    """
    chain, _, _ = app.parse_commands(words)
    names = tuple(word for word in chain if not word.startswith("-"))
    for name in names:
        app = app[name]
    return names, app


def run_app(app: App, words: Sequence[str], command: App) -> int:
    """Runs a command.

    Args:
        app: The whole program.
        words: The command line.
        command: The command that it calls, see :func:`command_of`.

    Returns:
        The exit code.

    Raises:
        CycloptsError: If the command line cannot be understood.
    """
    if not set(words).isdisjoint(command.version_flags):
        print_lines(VERSION)  # cyclopts would load rich to print it
        return 0
    is_group = command.default_command is None
    asks_help = not set(words).isdisjoint(command.help_flags)
    console = None
    # All else does without, for it takes longer to load than many a command takes to run.
    if asks_help or (is_group and _is_bare(app, words)):
        from ktdn_plugin.commands.help import HelpFormatter, help_console

        app.help_formatter, console = HelpFormatter(), help_console()
        if is_group:
            for name in command:  # which imports the modules: a list of commands takes their words
                command[name]
    code = app.meta(
        words,
        console=console,
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    return code or (WRONG_USAGE if is_group and not asks_help else 0)


def _is_bare(app: App, words: Sequence[str]) -> bool:
    """Whether a group of commands is called without a command, which shows its help."""
    return not app.parse_commands([word for word in words if word != DEBUG])[2]


def _shown_default(value: Any) -> str | None:
    """Returns a default as help shows it; None for what is off, empty or absent."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or None
    return None if value is None or value is False or value == "" else str(value)
