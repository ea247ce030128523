"""``ktdn prepare``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "decode a dataset's images once, into a store that training reads fast"
    more = (
        "What is made appears when it is whole. After an interruption, the same command goes on "
        "with a store where it was; LMDBs of --format basicsr are begun anew. Nothing is "
        "downloaded."
    )
    parser = commands.add_parser("prepare", help=text, description=f"{text}. {more}")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the unpacked dataset")
    parser.add_argument("destination", type=Path, metavar="DEST", help="the folder to make")
    parser.add_argument(
        "--dataset",
        default="folders",
        metavar="NAME",
        help="how SOURCE is laid out: nh-haze, nh-haze2, o-haze, i-haze, dense-haze, reside-its, "
        "reside-ots, sots-indoor, sots-outdoor, or folders (the default): hazy and clear images "
        "in sub-folders called so, or whose names end so (01_hazy, 01_GT), or clear images alone",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which part of it; where it is missing, the choices are listed. With folders: a name "
        "of your own (SOURCE's own name)",
    )
    parser.add_argument(
        "--format",
        choices=("store", "basicsr"),
        default="store",
        help="store: uncompressed, for this package (default); basicsr: hazy.lmdb and clear.lmdb, "
        "for stock BasicSR; an interrupted one does not go on",
    )
    parser.add_argument(
        "--allow-incomplete",
        "--allow_incomplete",
        action="store_true",
        help="go on although images are missing or altered: unusable ones, and their partners, "
        "are left out; the store says so",
    )
    parser.add_argument(
        "--clear-only",
        "--clear_only",
        action="store_true",
        help="take the clear images alone, as for a teacher",
    )
    parser.add_argument("--hazy", type=Path, metavar="DIR", help="folders: where hazy images are")
    parser.add_argument("--clear", type=Path, metavar="DIR", help="folders: where clear images are")
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="images to decode at a time (all processors)"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.data.prepare import prepare

    prepare(
        arguments.source,
        arguments.destination,
        arguments.dataset,
        arguments.split,
        clear_only=arguments.clear_only,
        allow_incomplete=arguments.allow_incomplete,
        hazy=arguments.hazy,
        clear=arguments.clear,
        form=arguments.format,
        workers=arguments.workers,
    )
