"""``ktdn report``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "show curves, results and photographs of runs as one page for any browser"
    parser = commands.add_parser("report", help=text, description=text)
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="RUN_OR_FOLDER",
        help="experiments/NAME, work_dirs/NAME, results/NAME, the folder of 'ktdn demo' or 'ktdn "
        "dehaze', a folder of images, or a CSV of figures; NAME=FOLDER says what to call it",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), help="page (report.html)"
    )
    parser.add_argument(
        "--hazy",
        type=Path,
        metavar="FOLDER_OR_STORE",
        help="the hazy images (those that a run or a dehazed folder names)",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        metavar="FOLDER_OR_STORE",
        help="the clear images; one with hazy and clear images in it gives both",
    )
    parser.add_argument("--title", help="the page's title (the folders' names)")
    parser.add_argument(
        "--max-width",
        type=int,
        default=1200,
        metavar="PIXELS",
        help="widest that images become, in pixels (1200)",
    )
    parser.add_argument(
        "--photos", type=int, default=24, metavar="NUMBER", help="most photographs shown (24)"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.report import write_report

    write_report(
        arguments.folders,
        arguments.output,
        hazy=arguments.hazy,
        clear=arguments.gt,
        title=arguments.title,
        max_width=arguments.max_width,
        photos=arguments.photos,
    )
