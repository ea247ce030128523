"""``ktdn shim``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "write ktdn_arch.py, which brings KTDN into traiNNer-redux or neosr"
    parser = commands.add_parser("shim", help=text, description=text)
    parser.add_argument(
        "destination",
        type=Path,
        metavar="DEST",
        help="the program's checkout, or the folder archs in it",
    )
    parser.add_argument(
        "--for",
        dest="program",
        choices=("trainner-redux", "neosr"),
        help="which program it is, where DEST does not tell",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the file of an earlier call"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.shims.writing import write_shim

    write_shim(arguments.destination, arguments.program, arguments.overwrite)
