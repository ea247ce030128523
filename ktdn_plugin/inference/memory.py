"""How much memory there is for a run."""

from __future__ import annotations

import torch

from ktdn_plugin.system_memory import available, peak_resident, resident

SHARE = 0.95
"""How much of what is free is taken where no limit is given."""


class Memory:
    """What a device holds, and what it may.

    Args:
        device: The device. Of a CPU the whole process counts, with all its libraries; of a GPU
            the tensors.
        limit: Most bytes; without it, what is free.
    """

    def __init__(self, device: torch.device, limit: int | None) -> None:
        self.device = device
        self.limit = limit

    def held(self) -> int:
        """Returns the bytes that are held now."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        if self.device.type == "mps":
            return torch.mps.current_allocated_memory()
        # Where the system does not tell, at least what it was at most.
        return resident() or peak_resident() or 0

    def free(self) -> int | None:
        """Returns the bytes that may be taken in addition; None where it is not known."""
        if self.limit is not None:
            return self.limit - self.held()
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            kept = torch.cuda.memory_reserved(self.device) - self.held()
            return int(SHARE * (free + kept))
        if self.device.type == "mps":
            return int(SHARE * torch.mps.recommended_max_memory()) - self.held()
        there = available()
        return None if there is None else int(SHARE * there)
