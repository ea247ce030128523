"""``ktdn options``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "copy the options files, to edit and train with"
    parser = commands.add_parser("options", help=text, description=text)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("options"), help="folder to make (options)"
    )
    parser.add_argument(
        "--schema",
        action="store_true",
        help="print the JSON schema of BasicSR's options files instead, for editors",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.schema:
        from ktdn_plugin.basicsr.options.schema import json_schema_text
        from ktdn_plugin.console import print_lines

        print_lines(*json_schema_text().splitlines())
        return
    from ktdn_plugin.option_files import copy_options_folder

    copy_options_folder(arguments.output)
