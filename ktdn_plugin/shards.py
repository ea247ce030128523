"""Divides images among processes that do not talk to each other.

An image's share follows from its name alone: it is the same for every process, whatever is done
already, and another process can take over the share of one that was killed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.process_rank import detect_rank
from ktdn_plugin.system_memory import available


class Shard(NamedTuple):
    """A process's share.

    Attributes:
        number: Which one, from 1.
        total: How many there are.
        local: Its place among the processes on this machine, from 0.
        beside: How many processes run on this machine.
    """

    number: int
    total: int
    local: int = 0
    beside: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def holds(self, name: Path) -> bool:
        """Returns whether an image is in this share.

        Args:
            name: Its path within its folder.
        """
        digest = hashlib.blake2b(name.as_posix().encode("utf-8", "surrogateescape"), digest_size=8)
        return int.from_bytes(digest.digest(), "big") % self.total == self.number - 1


def find_shard(text: str | None) -> Shard | None:
    """Returns this process's share, None if it does all.

    Args:
        text: Such as ``3/16``; by default what torchrun or srun say.

    Raises:
        KTDNError: If it is no such share.
    """
    if text is None:
        rank = detect_rank()
        if rank is None or rank.world_size == 1:
            return None
        return Shard(rank.rank + 1, rank.world_size, rank.local_rank, rank.local_world_size)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise KTDNError(f"--shard {text}: write it as 3/16, the third of sixteen shares")
    number, total = map(int, match.groups())
    if not 1 <= number <= total:
        raise KTDNError(f"--shard {text}: of {total} shares, choose one from 1 to {total}")
    return Shard(number, total) if total > 1 else None


def divide_devices(names: list[str], max_memory: Any, share: Shard) -> tuple[list[str], Any]:
    """Divides this machine's GPUs, or its memory, among the processes that it runs.

    Args:
        names: Devices as they were named; ``auto`` becomes a GPU of this process's own.
        max_memory: Memory as it was named; if None, on a CPU, its part of what is free.
        share: This process's share.
    """
    import torch

    from ktdn_plugin.inference.devices import find_device

    kind = find_device(names[0]).type
    if names == ["auto"] and kind == "cuda":
        names = [f"cuda:{share.local % torch.cuda.device_count()}"]
    if max_memory is None and kind == "cpu" and share.beside > 1:
        free = available()
        max_memory = None if free is None else free // share.beside
    return names, max_memory
