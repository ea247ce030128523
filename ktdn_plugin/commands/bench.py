"""``ktdn bench``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "measure what this machine makes of KTDN"
    subjects = commands.add_parser("bench", help=text, description=text).add_subparsers(
        dest="subject", required=True, metavar="SUBJECT"
    )
    _add_train(subjects)
    _add_data(subjects)
    _add_dehaze(subjects)
    _add_transfer(subjects)


def _add_train(subjects: argparse._SubParsersAction) -> None:
    text = "time and memory of a student's training step: the plain way, ours, and each switch"
    parser = subjects.add_parser("train", help=text, description=text)
    parser.add_argument("--encoder", default="res2net101d", help="timm backbone (res2net101d)")
    parser.add_argument("--batch_size", type=int, help="images in a batch (2 on a CPU, 4 on a GPU)")
    parser.add_argument("--size", type=int, default=256, help="crop in pixels (256)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each variant (5)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them (2)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--variants", nargs="+", help="variants beside 'plain' (all)")
    parser.add_argument(
        "-opt", "--opt", type=Path, help="options file whose training data is waited for"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and images (0)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_train, memory_depends_on="--batch_size or --size")


def _train(arguments: argparse.Namespace) -> None:
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


def _add_data(subjects: argparse._SubParsersAction) -> None:
    text = "training crops a second and a core: BasicSR's dataset and ours, files and store"
    parser = subjects.add_parser("data", help=text, description=text)
    parser.add_argument("--hazy", type=Path, help="folder of hazy images (made of photographs)")
    parser.add_argument("--clear", type=Path, help="folder of the clear ones")
    parser.add_argument("--pairs", type=int, default=6, help="pairs to read from, at most (6)")
    parser.add_argument("--size", type=int, default=256, help="crop in pixels (256)")
    parser.add_argument("--samples", type=int, help="samples of each reader, at most (no limit)")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each reader (5)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0], help="also with so many data workers (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of crops and made pairs (0)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_data, memory_depends_on="--size or --workers")


def _data(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.bench.data import run_bench_data

    run_bench_data(
        arguments.hazy,
        arguments.clear,
        arguments.pairs,
        arguments.size,
        arguments.samples,
        arguments.seconds,
        arguments.workers,
        arguments.seed,
    )


def _add_dehaze(subjects: argparse._SubParsersAction) -> None:
    text = "time and memory of dehazing an image: the plain way, and ours in each precision"
    parser = subjects.add_parser("dehaze", help=text, description=text)
    parser.add_argument("--checkpoint", type=Path, help="a trained network (weights are drawn)")
    parser.add_argument(
        "--encoder", default="res2net101d", help="timm backbone for drawn weights (res2net101d)"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=["1600x1200"],
        metavar="WIDTHxHEIGHT",
        help="the images' sizes (1600x1200)",
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        metavar="PRECISION",
        help="float32, tf32, bf16, fp16 (all that the device has)",
    )
    parser.add_argument(
        "--max-memory",
        nargs="+",
        default=[],
        metavar="SIZE",
        help="also within so much memory: 2GB, 800MB, ..., or least: the least that does",
    )
    parser.add_argument(
        "--beside",
        nargs="+",
        default=[],
        metavar="NAME_OR_FILE",
        help="other trained networks, measured in the same run: ktdn_small, net_g.pth, ...",
    )
    parser.add_argument("--steps", type=int, default=3, help="timed runs of each way (3)")
    parser.add_argument("--warmup", type=int, default=1, help="runs before them (1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (0)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_dehaze, memory_depends_on="--sizes")


def _dehaze(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.bench.dehaze import run_bench_dehaze

    run_bench_dehaze(
        arguments.checkpoint,
        arguments.encoder,
        arguments.sizes,
        arguments.precisions,
        arguments.max_memory,
        arguments.beside,
        arguments.steps,
        arguments.warmup,
        arguments.device,
        arguments.seed,
    )


def _add_transfer(subjects: argparse._SubParsersAction) -> None:
    text = (
        "what knowledge transfer adds: a student trained with, without, and by an untrained teacher"
    )
    parser = subjects.add_parser("transfer", help=text, description=text)
    parser.add_argument(
        "-opt",
        "--opt",
        type=Path,
        required=True,
        help="a student's options file, such as options/release/train_transfer.yml",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs (0 1 2)"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_transfer, memory_depends_on="datasets.train.batch_size_per_gpu")


def _transfer(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.bench.transfer import run_bench_transfer

    run_bench_transfer(arguments.opt, arguments.seeds)
