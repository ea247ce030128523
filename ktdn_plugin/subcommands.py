"""Runs ``ktdn``'s own commands as a user would, each in its own process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError

# What launchers leave: whoever calls may run under one, but the command is a run of its own.
_LAUNCHERS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
_LAUNCHERS |= {"SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}


def run_subcommand(words: Sequence[str], folder: Path | None = None) -> None:
    """Prints a command and runs it, showing its output.

    Args:
        words: The words after ``ktdn``.
        folder: The folder to run it in; by default this one.

    Raises:
        KTDNError: If it fails. It has printed why.
    """
    line = shlex.join(["ktdn", *words])
    print_lines(f"$ cd {shlex.quote(str(folder))} && {line}" if folder else f"$ {line}")
    command = [sys.executable, "-m", "ktdn_plugin", *words]
    environment = environment_of_subcommands()
    if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise KTDNError(f"'{line}' failed, see above")


def environment_of_subcommands() -> dict[str, str]:
    """Returns this process's environment for a run of its own, which finds this package."""
    environment = {key: value for key, value in os.environ.items() if key not in _LAUNCHERS}
    # In another folder a checkout that is not installed is not found.
    here = str(Path(str(resources.files("ktdn_plugin"))).absolute().parent)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (here, environment.get("PYTHONPATH")) if part
    )
    return environment
