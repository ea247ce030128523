"""``ktdn curves``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "draw losses and validation figures of training runs into one picture"
    parser = commands.add_parser("curves", help=text, description=text)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a run's folder: experiments/NAME, work_dirs/NAME",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("curves.png"), help="picture (curves.png)"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.curves import draw_curves

    draw_curves(arguments.runs, arguments.output)
