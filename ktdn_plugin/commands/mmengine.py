"""``ktdn mmengine``: train and test by mmengine's configs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ktdn_plugin.commands.toolbox import add_local_rank


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "train and test by a config of mmengine's"
    parser = commands.add_parser("mmengine", help=text, description=text)
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    text = "train a network as a config says"
    train = stages.add_parser("train", help=text, description=text)
    _add_flags(train)
    train.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from the work directory's newest whole checkpoint, or from this one",
    )
    train.set_defaults(run=_train, memory_depends_on="batch_size or gt_size of train_dataloader")

    text = "measure a checkpoint, and save its results"
    test = stages.add_parser("test", help=text, description=text)
    _add_flags(test)
    test.add_argument("checkpoint", type=Path, help="of either toolbox's side")
    test.set_defaults(run=_test)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the config file")
    parser.add_argument(
        "--work-dir", type=Path, help="folder to write to (the config's, or work_dirs/CONFIG)"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY.KEY=VALUE",
        help="change the config, for example train_cfg.max_iters=1000",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        default="none",
        help="job launcher; torchrun is recognised without it",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    add_local_rank(parser, argparse.SUPPRESS)


def _train(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.mmengine.run import train_pipeline

    train_pipeline(arguments)


def _test(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.mmengine.run import test_pipeline

    test_pipeline(arguments)
