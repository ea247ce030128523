"""``train`` and ``test`` of both commands, with the flags of BasicSR's own scripts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the commands."""
    crops = "batch_size_per_gpu or gt_size of datasets.train"
    whole = "the images' size (they are tested whole)"
    for name, text, run, memory in (
        ("train", "train a network as an options file says", _train, crops),
        ("test", "run a checkpoint over images, save and measure the results", _test, whole),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        _add_flags(parser)
        parser.set_defaults(run=run, memory_depends_on=memory)


def add_local_rank(parser: argparse.ArgumentParser, default: Any) -> None:
    """Adds what old launchers pass, before the command or behind it."""
    text = "set by old launchers; not needed"
    parser.add_argument("--local_rank", "--local-rank", type=int, default=default, help=text)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-opt", "--opt", required=True, type=Path, help="the options file (YAML)")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="job launcher; torchrun is recognised without it",
    )
    parser.add_argument(
        "--auto_resume", action="store_true", help="go on from the run's newest training state"
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="BasicSR's debug run (log, save and validate every few iterations), with tracebacks",
    )
    add_local_rank(parser, argparse.SUPPRESS)  # what stands before the command is not undone
    parser.add_argument(
        "--force_yml",
        nargs="+",
        metavar="KEY:KEY=VALUE",
        help="change options, for example train:ema_decay=0.999",
    )


def _train(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.basicsr.train import train_pipeline

    train_pipeline(arguments, Path.cwd())


def _test(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.basicsr.test import test_pipeline

    test_pipeline(arguments, Path.cwd())
