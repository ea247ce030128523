"""Joins the processes of a distributed run, with or without GPUs."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from ktdn_plugin.errors import KTDNError


def join(launcher: str, use_gpu: bool) -> bool:
    """Joins the process group that a launcher has set up.

    Args:
        launcher: ``none``, ``pytorch`` or ``slurm``. With ``none`` a launch by ``torchrun`` is
            recognised all the same: independent runs in its processes would overwrite each other.
        use_gpu: Whether the processes work on GPUs (nccl joins them) or on CPUs (gloo).

    Returns:
        Whether the run is distributed.

    Raises:
        KTDNError: If the launcher has not started this process.
    """
    if launcher == "slurm":
        if "SLURM_PROCID" not in os.environ:
            raise KTDNError("--launcher slurm: this process was not started by srun")
        from basicsr.utils.dist_util import init_dist

        init_dist("slurm")
        return True
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        if launcher == "pytorch":
            raise KTDNError(
                "--launcher pytorch: this process was not started by torchrun: torchrun "
                "--nproc_per_node=N -m ktdn_plugin train ..."
            )
        return False
    if use_gpu:
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
