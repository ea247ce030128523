"""Detects whether a process is one of several that were started together.

Whoever starts them is recognised by what it leaves in the environment: independent runs in their
place would overwrite each other.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ktdn_plugin.errors import KTDNError

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessRank(NamedTuple):
    """A process's rank among those that were started together.

    Attributes:
        rank: From 0, of all.
        world_size: How many there are.
        local_rank: From 0, of those on this machine.
        local_world_size: How many of them are on this machine, if the launcher says so.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int = 1


def detect_rank(launcher: str = "none") -> ProcessRank | None:
    """Detects from the environment whether this process is one of several.

    Args:
        launcher: ``none`` to recognise torchrun, its forerunners and srun; ``pytorch`` or
            ``slurm`` to insist on one.

    Returns:
        Its rank, or None for a single process.

    Raises:
        KTDNError: If several processes were started in a way that does not let them find each
            other, or not by the launcher that is insisted on.
    """
    env = os.environ
    given = [key for key in _TORCHRUN if key in env]
    if len(given) == len(_TORCHRUN):
        variable_as_number("MASTER_PORT", 1, 65535)
        world_size = variable_as_number("WORLD_SIZE", 1)
        rank = variable_as_number("RANK", 0, world_size - 1)
        local_rank = variable_as_number("LOCAL_RANK", 0, default=0)
        beside = variable_as_number("LOCAL_WORLD_SIZE", 1, default=1)
        return ProcessRank(rank, world_size, local_rank, beside)
    if launcher == "pytorch":
        raise KTDNError(
            "--launcher pytorch: this process was not started by torchrun: torchrun "
            "--nproc_per_node=N -m ktdn_plugin train ..."
        )
    slurm = _slurm_place(launcher == "slurm")
    if slurm is not None:
        return slurm
    if launcher == "slurm":
        raise KTDNError("--launcher slurm: this process was not started by srun")
    for key in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if variable_as_number(key, 0, default=1) > 1:
            missing = ", ".join(name for name in _TORCHRUN if name not in env)
            raise KTDNError(
                f"{env[key]} processes were started ({key}), but they cannot find each other "
                f"({missing} not set); start them by torchrun --nproc_per_node=N -m ktdn_plugin ..."
            )
    return None


def variable_as_number(key: str, least: int, most: int | None = None, default: int = 0) -> int:
    """Returns an environment variable's whole number, or the default where it is not set.

    Raises:
        KTDNError: If it is none, or out of range.
    """
    text = os.environ.get(key) or str(default)
    # Not int(): it takes '1_0' and digits of all scripts, and refuses very many.
    if re.fullmatch("[0-9]{1,18}", text) is None or not (
        least <= int(text) <= (2**31 if most is None else most)
    ):
        wanted = f"at least {least}" if most is None else f"from {least} to {most}"
        raise KTDNError(
            f"the environment variable {key}: {text[:40]!r} must be a whole number {wanted}; "
            "it is set by the launcher"
        )
    return int(text)


def _slurm_place(insisted: bool) -> ProcessRank | None:
    env = os.environ
    # Of the step, which srun starts: a batch script's own shell has the job's variables as well.
    count = env.get("SLURM_STEP_NUM_TASKS") or (env.get("SLURM_NTASKS") if insisted else None)
    if count is None or "SLURM_PROCID" not in env:
        return None
    key = "SLURM_STEP_NUM_TASKS" if env.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"
    world_size = variable_as_number(key, 1)
    if world_size == 1 and not insisted:
        return None
    rank = variable_as_number("SLURM_PROCID", 0, world_size - 1)
    # As '2(x3),1' it says how many run on each node.
    beside = re.match("[0-9]{1,9}", env.get("SLURM_STEP_TASKS_PER_NODE", ""))
    local_rank = variable_as_number("SLURM_LOCALID", 0)
    return ProcessRank(rank, world_size, local_rank, int(beside[0]) if beside else 1)
