"""Joins the processes of a distributed run, with or without GPUs."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


def join(launcher: str) -> bool:
    """Joins the process group that a launcher has set up.

    Args:
        launcher: ``none``, ``pytorch`` or ``slurm``. With ``none`` a launch by ``torchrun`` is
            recognised all the same: independent runs in its processes would overwrite each other.

    Returns:
        Whether the run is distributed. nccl joins GPUs, gloo CPUs.
    """
    if launcher == "slurm":
        from basicsr.utils.dist_util import init_dist

        init_dist("slurm")
        return True
    if launcher == "none" and not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return False
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    return True


def wait_for_all() -> None:
    """Waits until every process of a distributed run is here."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def leave() -> None:
    """Leaves the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
