"""Flags of commands that run a network: where, how exactly, and within how much memory."""

from __future__ import annotations

import argparse
from typing import Any

PRECISIONS = ("float32", "tf32", "bf16", "fp16")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; :func:`machine_of` gives what they say."""
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1 or mps"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of the computation (float32)"
    )
    parser.add_argument(
        "--max-memory",
        "--max_memory",
        metavar="SIZE",
        help="such as 4GB or 2GB: large photos go through the network in stripes, with the same "
        "result (no limit)",
    )
    parser.add_argument(
        "--encoder", metavar="NAME", help="the network's encoder (found in the checkpoint)"
    )


def machine_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of :class:`~ktdn_plugin.Dehazer` that the flags stand for."""
    return {
        name: getattr(arguments, name) for name in ("device", "precision", "max_memory", "encoder")
    }
