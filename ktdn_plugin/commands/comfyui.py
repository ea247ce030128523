"""``ktdn comfyui``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "copy the node 'Dehaze (KTDN)' into ComfyUI"
    parser = commands.add_parser("comfyui", help=text, description=text)
    parser.add_argument(
        "destination", type=Path, metavar="DEST", help="ComfyUI's folder, or its custom_nodes"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier copy of the node"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.comfyui.install import copy_node

    copy_node(arguments.destination, arguments.overwrite)
