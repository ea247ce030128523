"""Joins the processes of a distributed run, with or without GPUs, and keeps them in step.

Whoever starts several processes is recognised by what it leaves in the environment: independent
runs in their place would overwrite each other. No process hangs because another one is gone.
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
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ktdn_plugin.errors import KTDNError, OtherProcessError, first_line

TIMEOUT = 1800
"""Seconds that a process waits for the others, unless ``dist_params.timeout`` says otherwise."""

_ONE_FOR_EACH = "start one process per GPU, or use the CPU (num_gpu: 0, or CUDA_VISIBLE_DEVICES=)"
_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessRank(NamedTuple):
    """A process's rank among those that were started together."""

    rank: int
    world_size: int
    local_rank: int


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
        return ProcessRank(rank, world_size, variable_as_number("LOCAL_RANK", 0, default=0))
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
    return ProcessRank(rank, world_size, variable_as_number("SLURM_LOCALID", 0))


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
        place: What :func:`detect_rank` gave.
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
        if not is_distributed() or not _is_lost(error):
            raise
        raise OtherProcessError(
            f"process {dist.get_rank()} of {dist.get_world_size()} lost contact with another rank, "
            f"it crashed or timed out ({_reason(error)}); start again with {resuming}",
            True,
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    signs = ("gloo", "NCCL", "onnection", "imed out", "Broken pipe", "socket")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


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
