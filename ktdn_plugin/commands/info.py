"""``ktdn info``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path

from ktdn_plugin.model_zoo.weights import SHIPPED


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "tell what checkpoint files are: network, encoder, training run, split and figures"
    parser = commands.add_parser("info", help=text, description=text)
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=f"a checkpoint in any layout, or {' or '.join(SHIPPED)}",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list, one entry a file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.checkpoints.info import print_checkpoints

    print_checkpoints(arguments.files, as_json=arguments.json)
