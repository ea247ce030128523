"""The commands ``basicsr`` and ``ktdn``: parsing and messages only."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.errors import KTDNError, OptionsError

SECONDS_TO_SPEAK = 3


def add_basicsr_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of BasicSR's own scripts."""
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
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by old launchers; not needed"
    )
    parser.add_argument(
        "--force_yml",
        nargs="+",
        metavar="KEY:KEY=VALUE",
        help="change options, for example train:ema_decay=0.999",
    )


def _basicsr_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="Train and test KTDN and BasicSR's own networks."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train_and_test(commands)
    return parser


def _add_train_and_test(commands: argparse._SubParsersAction) -> None:
    for name, text in (
        ("train", "train a network as an options file says"),
        ("test", "run a checkpoint over images, save and measure the results"),
    ):
        add_basicsr_flags(commands.add_parser(name, help=text, description=text))


def _ktdn_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="KTDN, the Knowledge Transfer Dehazing Network."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train_and_test(commands)
    text = "train teacher and student on embedded photographs, and show the result"
    options_text = "copy the options files, to edit and train with"
    options = commands.add_parser("options", help=options_text, description=options_text)
    options.add_argument(
        "-o", "--output", type=Path, default=Path("options"), help="folder to make (options)"
    )
    options.add_argument("--debug", action="store_true", help="show tracebacks")
    demo = commands.add_parser("demo", help=text, description=text)
    demo.add_argument(
        "-o", "--output", type=Path, default=Path("demo"), help="folder to write to (demo)"
    )
    demo.add_argument("--seed", type=int, default=0, help="seed of the haze (0)")
    demo.add_argument("--debug", action="store_true", help="show tracebacks")
    demo.add_argument(
        "--force_yml",
        nargs="+",
        metavar="KEY:KEY=VALUE",
        help="change options of both training stages",
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    # Toolboxes are loaded here, after parsing: --help and wrong flags answer at once.
    if arguments.command == "train":
        from ktdn_plugin.basicsr.train import train_pipeline

        train_pipeline(arguments, Path.cwd())
    elif arguments.command == "test":
        from ktdn_plugin.basicsr.test import test_pipeline

        test_pipeline(arguments, Path.cwd())
    elif arguments.command == "options":
        from ktdn_plugin.option_files import copy_options_folder

        copy_options_folder(arguments.output)
    else:
        from ktdn_plugin.demo import run_demo

        run_demo(arguments.output, arguments.seed, arguments.force_yml or ())


def _main(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    arguments = parser.parse_args(argv)
    try:
        _run(arguments)
    except KeyboardInterrupt:
        hint = " --auto_resume goes on from the newest state, if one was saved."
        print("Interrupted." + (hint if arguments.command == "train" else ""), file=sys.stderr)
        return 130
    except Exception as error:
        message = _message(error)
        if message is None or arguments.debug:
            raise
        # Every process of a distributed run checks the options; one of them is enough to hear,
        # and the launcher ends it as soon as another one is gone.
        if isinstance(error, OptionsError) and int(os.environ.get("RANK", 0)) > 0:
            time.sleep(SECONDS_TO_SPEAK)
            return 1
        for line in message.splitlines():
            print(f"error: {line}", file=sys.stderr, flush=True)
        return 1
    return 0


def _message(error: Exception) -> str | None:
    """Words an error for people; None is for a defect of the program, whose traceback is wanted."""
    if isinstance(error, KTDNError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    # torch's; by name, since torch need not be loaded to get here.
    if type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: lower batch_size_per_gpu or gt_size ({str(error).splitlines()[0]})"
    return None


def basicsr(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command ``basicsr``."""
    return _main(_basicsr_parser("basicsr"), argv)


def main(argv: Sequence[str] | None = None, program: str = "ktdn") -> int:
    """Entry point of the command ``ktdn`` and of ``python -m ktdn_plugin``."""
    return _main(_ktdn_parser(program), argv)
