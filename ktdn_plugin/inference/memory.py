"""How much memory is available for a run."""

from __future__ import annotations

import torch

from ktdn_plugin.system_memory import available, peak_resident, resident

SHARE = 0.95
"""Share of the free memory that is used if no limit is given."""


class Memory:
    """Memory use of a device, and its limit.

    Args:
        device: The device. On a CPU the whole process counts, with all its libraries; on a GPU
            only tensors do.
        limit: Limit in bytes; the free memory if None.
    """

    def __init__(self, device: torch.device, limit: int | None) -> None:
        self.device = device
        self.limit = limit
        self.reserved = 0
        """Bytes that are not the network's to take."""

    def held(self) -> int:
        """Returns the bytes currently held."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        if self.device.type == "mps":
            return torch.mps.current_allocated_memory()
        # If the system does not report current use, fall back to the peak.
        return resident() or peak_resident() or 0

    def free(self) -> int | None:
        """Returns how many more bytes may be taken; None if unknown."""
        if self.limit is not None:
            return self.limit - self.held() - self.reserved
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            kept = torch.cuda.memory_reserved(self.device) - self.held()
            return int(SHARE * (free + kept))
        if self.device.type == "mps":
            return int(SHARE * torch.mps.recommended_max_memory()) - self.held()
        there = available()
        return None if there is None else int(SHARE * there) - self.reserved
