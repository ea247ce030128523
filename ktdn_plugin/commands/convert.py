"""``ktdn convert``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "write a checkpoint in another layout: ours, the published one, safetensors, mmengine's"
    parser = commands.add_parser("convert", help=text, description=text)
    parser.add_argument("source", type=Path, metavar="SRC", help="a checkpoint in any layout")
    parser.add_argument("target", type=Path, metavar="DST", help="the file to write")
    parser.add_argument(
        "--to",
        metavar="LAYOUT",
        help="ktdn, published, safetensors or mmengine (by DST's suffix: safetensors or ktdn)",
    )
    parser.add_argument(
        "--param-key",
        metavar="KEY",
        help="params, as trained, or params_ema, averaged (both where DST has room for both, "
        "else the averaged ones)",
    )
    parser.add_argument("--encoder", help="timm's name of the encoder, where SRC does not tell")
    parser.add_argument(
        "--half",
        action="store_true",
        help="write convolutions in float16: half the size; networks compute in float32 as before",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it is there")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.checkpoints.convert import convert
    from ktdn_plugin.console import print_lines

    made = convert(
        arguments.source,
        arguments.target,
        arguments.to,
        param_key=arguments.param_key,
        encoder=arguments.encoder,
        half=arguments.half,
        overwrite=arguments.overwrite,
    )
    print_lines(
        f"{arguments.source} ({made.source}) -> {arguments.target} ({made.target}): KTDN with "
        f"{made.encoder}, {' and '.join(made.weights)}"
    )
