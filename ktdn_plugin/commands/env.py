"""``ktdn env``: flags."""

from __future__ import annotations

import argparse


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "print versions and devices, for a report of a fault"
    parser = commands.add_parser("env", help=text, description=text)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.environment import print_environment

    print_environment()
