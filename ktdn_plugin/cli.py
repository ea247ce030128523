"""The commands ``basicsr`` and ``ktdn``: parsing and messages only."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.errors import KTDNError, OptionsError, OtherProcessError

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
    _add_local_rank(parser, argparse.SUPPRESS)  # what stands before the command is not undone
    parser.add_argument(
        "--force_yml",
        nargs="+",
        metavar="KEY:KEY=VALUE",
        help="change options, for example train:ema_decay=0.999",
    )


def _add_local_rank(parser: argparse.ArgumentParser, default: Any) -> None:
    """Adds what old launchers pass, before the command or behind it."""
    text = "set by old launchers; not needed"
    parser.add_argument("--local_rank", "--local-rank", type=int, default=default, help=text)


def _basicsr_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="Train and test KTDN and BasicSR's own networks."
    )
    _add_local_rank(parser, 0)
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
    _add_local_rank(parser, 0)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train_and_test(commands)
    text = "train teacher and student on embedded photographs, and show the result"
    options_text = "copy the options files, to edit and train with"
    options = commands.add_parser("options", help=options_text, description=options_text)
    options.add_argument(
        "-o", "--output", type=Path, default=Path("options"), help="folder to make (options)"
    )
    options.add_argument("--debug", action="store_true", help="show tracebacks")
    _add_curves(commands)
    _add_bench(commands)
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


def _add_curves(commands: argparse._SubParsersAction) -> None:
    text = "draw losses and validation figures of training runs into one picture"
    curves = commands.add_parser("curves", help=text, description=text)
    curves.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run's folder: experiments/NAME"
    )
    curves.add_argument(
        "-o", "--output", type=Path, default=Path("curves.png"), help="picture (curves.png)"
    )
    curves.add_argument("--debug", action="store_true", help="show tracebacks")


def _add_bench(commands: argparse._SubParsersAction) -> None:
    text = "measure what this machine makes of KTDN"
    subjects = commands.add_parser("bench", help=text, description=text).add_subparsers(
        dest="subject", required=True, metavar="SUBJECT"
    )
    text = "time and memory of a student's training step: the plain way, ours, and each switch"
    train = subjects.add_parser("train", help=text, description=text)
    train.add_argument("--encoder", default="res2net101d", help="timm backbone (res2net101d)")
    train.add_argument("--batch_size", type=int, help="images in a batch (2 on a CPU, 4 on a GPU)")
    train.add_argument("--size", type=int, default=256, help="crop in pixels (256)")
    train.add_argument("--steps", type=int, default=5, help="timed steps of each variant (5)")
    train.add_argument("--warmup", type=int, default=2, help="steps before them (2)")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    train.add_argument("--variants", nargs="+", help="variants beside 'plain' (all)")
    train.add_argument(
        "-opt", "--opt", type=Path, help="options file whose training data is waited for"
    )
    train.add_argument("--seed", type=int, default=0, help="seed of weights and images (0)")
    train.add_argument("--debug", action="store_true", help="show tracebacks")


def _run(arguments: argparse.Namespace) -> None:
    # Toolboxes are loaded here, after parsing: --help and wrong flags answer at once.
    if arguments.command == "train":
        from ktdn_plugin.basicsr.train import train_pipeline

        train_pipeline(arguments, Path.cwd())
    elif arguments.command == "test":
        from ktdn_plugin.basicsr.test import test_pipeline

        test_pipeline(arguments, Path.cwd())
    elif arguments.command == "curves":
        from ktdn_plugin.curves import draw_curves

        draw_curves(arguments.runs, arguments.output)
    elif arguments.command == "bench":
        from ktdn_plugin.bench.train import run_bench

        run_bench(
            arguments.encoder,
            arguments.batch_size,
            arguments.size,
            arguments.steps,
            arguments.warmup,
            arguments.device,
            arguments.variants,
            arguments.opt,
            arguments.seed,
        )
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
        if isinstance(error, OtherProcessError):
            time.sleep(SECONDS_TO_SPEAK)
            if not error.is_worth_saying:
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
