"""``ktdn models``: flags."""

from __future__ import annotations

import argparse
import re


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "list the named networks: parameters, FLOPs and memory"
    parser = commands.add_parser("models", help=text, description=text)
    parser.add_argument(
        "filter", nargs="?", default="", help="which of them, such as '*small*' (all)"
    )
    parser.add_argument(
        "--size",
        type=_size,
        nargs="+",
        metavar="WxH",
        help="image sizes to count for (256x256 1600x1200)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.lower())
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 1600x1200")
    return int(found.group(1)), int(found.group(2))


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.bench.costs import SIZES
    from ktdn_plugin.bench.costs_table import print_models

    print_models(arguments.filter, arguments.size or SIZES)
