"""``ktdn demo``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "train teacher and student on embedded photographs, and show the result"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo"), help="folder to write to (demo)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the haze (0)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument(
        "--force_yml",
        nargs="+",
        metavar="KEY:KEY=VALUE",
        help="change options of both training stages",
    )
    parser.add_argument(
        "--toolbox", choices=("basicsr", "mmengine"), default="basicsr", help="by which to train"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY.KEY=VALUE",
        help="the same for mmengine's configs",
    )
    parser.set_defaults(run=_run, memory_depends_on="the training's batch size and crop")


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.demo import TOOLBOXES, run_demo
    from ktdn_plugin.errors import KTDNError

    given = {"--force_yml": arguments.force_yml, "--cfg-options": arguments.cfg_options}
    flag = TOOLBOXES[arguments.toolbox].override
    for other, values in given.items():
        if values and other != flag:
            raise KTDNError(f"{other}: with --toolbox {arguments.toolbox} the flag is {flag}")
    run_demo(arguments.output, arguments.seed, given[flag] or (), arguments.toolbox)
