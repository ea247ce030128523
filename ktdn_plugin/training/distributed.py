"""Joins the processes of a distributed run, with or without GPUs, and keeps them in step.

No process hangs because another one is gone.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ktdn_plugin.errors import KTDNError, OtherProcessError, first_line, is_lost_process
from ktdn_plugin.process_rank import ProcessRank, variable_as_number

TIMEOUT = 1800
"""Seconds that a process waits for the others, unless ``dist_params.timeout`` says otherwise."""

_ONE_FOR_EACH = "start one process per GPU, or use the CPU (num_gpu: 0, or CUDA_VISIBLE_DEVICES=)"


def _export_slurm(place: ProcessRank) -> None:
    """Sets what torch's rendezvous reads; every process of a job comes to the same."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
    os.environ.setdefault("MASTER_ADDR", _first_host(nodes))
    job = variable_as_number("SLURM_JOB_ID", 0)
    os.environ.setdefault("MASTER_PORT", str(20000 + job % 10000))
    os.environ |= {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_RANK": str(place.local_rank),
    }


def _first_host(nodes: str) -> str:
    if shutil.which("scontrol"):
        words = ["scontrol", "show", "hostnames", nodes]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.split():
            return done.stdout.split()[0]
    match = re.match(r"([^,\[]+)(?:\[(\w+)[^]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def join(place: ProcessRank | None, use_gpu: bool, timeout: float = TIMEOUT) -> bool:
    """Joins the other processes.

    Args:
        place: What :func:`~ktdn_plugin.process_rank.detect_rank` gave.
        use_gpu: Whether the processes work on GPUs (nccl joins them) or on CPUs (gloo).
        timeout: Seconds to wait for the others, here and whenever they work together.

    Returns:
        Whether the run is distributed.

    Raises:
        KTDNError: If there is no GPU for this process, or the others do not come.
    """
    if place is None:
        return False
    if "MASTER_ADDR" not in os.environ or "RANK" not in os.environ:
        _export_slurm(place)
    if use_gpu:
        torch.cuda.set_device(_choose_gpu(place))
    else:
        _choose_interface()
    try:
        store = _rendezvous_store(place, timeout)
        if use_gpu:
            _refuse_shared_gpu(store, place, _gpu_identity())
        dist.init_process_group(
            "nccl" if use_gpu else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world_size,
            timeout=timedelta(seconds=timeout),
        )
    except (RuntimeError, ValueError) as error:
        raise KTDNError(
            f"process {place.rank} of {place.world_size} cannot join the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({_reason(error)})"
        ) from error
    return True


def _choose_gpu(place: ProcessRank) -> int:
    """Returns the number of this process' GPU among those that it sees."""
    there = torch.cuda.device_count()
    if there == 1:  # Slurm's --gpus-per-task=1 shows each process its own, as number 0
        return 0
    if place.local_rank >= there:
        raise KTDNError(
            f"process {place.rank} is number {place.local_rank + 1} on this host, which has "
            f"{there} GPU(s); {_ONE_FOR_EACH}"
        )
    return place.local_rank


def _gpu_identity() -> str:
    """Returns what tells the current GPU from all others of all hosts."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{socket.gethostname()} {getattr(properties, 'uuid', properties.name)}"


def _refuse_shared_gpu(store: Any, place: ProcessRank, own: str) -> None:
    """Raises if another process uses this one's GPU, which nccl does not report clearly."""
    store.set(f"gpu_{place.rank}", own)
    for rank in range(place.world_size):
        if rank != place.rank and store.get(f"gpu_{rank}").decode() == own:
            raise KTDNError(
                f"processes {min(rank, place.rank)} and {max(rank, place.rank)} were given the "
                f"same GPU; {_ONE_FOR_EACH}"
            )


def _rendezvous_store(place: ProcessRank, timeout: float) -> Any:
    """Returns the rendezvous store, a new one for each attempt.

    torchrun keeps one store when it restarts processes: they would find those of dead ones in it.
    """
    meetings = rendezvous(
        "env://", place.rank, place.world_size, timeout=timedelta(seconds=timeout)
    )
    store: Any = next(iter(meetings))[0]
    # Of several hosts each counts its own restarts: no word that all of them agree on.
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt_{attempt}", store)
    return store


def _choose_interface() -> None:
    """Names gloo the network interface that leads to the other hosts.

    By itself it takes the one of the host's own name, which many systems resolve to a loopback
    address that no other host can reach.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: the kernel is only asked which way a packet would go.
            probe.connect((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
            address = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                request = name.encode()[:15].ljust(40, b"\0")
                try:
                    found = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
                except OSError:  # an interface without an address
                    continue
                if socket.inet_ntoa(found[20:24]) == address:
                    os.environ["GLOO_SOCKET_IFNAME"] = name
                    return
    except (ImportError, OSError):  # no Linux, or a name that gloo will complain about itself
        return


def is_distributed() -> bool:
    """Returns whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Returns this process' number, 0 by itself."""
    return dist.get_rank() if is_distributed() else 0


def gather(item: Any) -> list[Any]:
    """Returns the items of all processes, by rank, on each; items must be picklable."""
    if not is_distributed():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items


def largest(number: int) -> int:
    """Returns the largest of all processes' numbers, on each of them."""
    if not is_distributed():
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    together = torch.tensor(number, device=device)
    dist.all_reduce(together, dist.ReduceOp.MAX)
    return int(together)


def share_buffers(*networks: torch.nn.Module) -> None:
    """Takes over the first process' batch statistics, which are the ones that are saved."""
    if is_distributed():
        for network in networks:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)


def common_seed() -> int:
    """Draws a seed that is the same in all processes."""
    return int(gather(random.SystemRandom().randrange(1, 10_000))[0])


@contextmanager
def fail_on_all_ranks() -> Iterator[None]:
    """Fails on all ranks where one has failed, so that none continues or waits.

    Raises:
        OtherProcessError: If another process has raised a ``KTDNError`` or an ``OSError`` in it.
    """
    failure: Exception | None = None
    try:
        yield
    except (KTDNError, OSError) as error:
        failure = error
    failed = [rank for rank, bad in enumerate(gather(failure is not None)) if bad]
    if failure is not None:
        raise failure
    if failed:
        raise OtherProcessError(f"process {failed[0]} failed; see its message", False)


@contextmanager
def peer_failures_as_errors(resuming: str = "--auto_resume") -> Iterator[None]:
    """Turns torch's errors after another process died into one line.

    Args:
        resuming: The flag that resumes a run.

    Raises:
        OtherProcessError: In its place.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or not (
            isinstance(error, dist.DistError) or is_lost_process(error)
        ):
            raise
        raise OtherProcessError(
            f"process {dist.get_rank()} of {dist.get_world_size()} lost contact with another rank, "
            f"it crashed or timed out ({_reason(error)}); start again with {resuming}",
            True,
        ) from error


def _reason(error: Exception) -> str:
    return re.sub(r"^\[\S*?/([\w.]+:\d+)\] ", r"\1: ", first_line(error))[:200]


def leave(failed: bool = False) -> None:
    """Leaves the process group, if there is one.

    Args:
        failed: Whether this process gives up: then nothing is waited for.
    """
    if not is_distributed():
        return
    abort = getattr(dist.distributed_c10d, "_abort_process_group", None)
    if failed and abort is not None and dist.get_backend() == "nccl":
        abort()
    else:
        dist.destroy_process_group()
