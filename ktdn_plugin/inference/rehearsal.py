"""Measuring a run's memory by rehearsing it on meta tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Module = TypeVar("Module", bound=nn.Module)

CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten._convolution.default)


def without_content(module: Module) -> Module:
    """Returns a module's twin on the 'meta' device, with shapes but no memory."""
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    memo: dict[int, Any] = {}
    for tensor in tensors:
        twin = tensor.detach().to("meta")
        memo[id(tensor)] = (
            nn.Parameter(twin, requires_grad=False) if isinstance(tensor, nn.Parameter) else twin
        )
    return copy.deepcopy(module, memo)


class Meter(TorchDispatchMode):
    """Adds up the bytes of all tensors alive at the same time.

    Views count as the storage they share. A convolution's weights count twice while it runs: the
    backend library reorders them into its own layout.

    Attributes:
        peak: Peak bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        extra = args[1].nbytes if func in CONVOLUTIONS else 0
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.hold(tensor)
        self.peak = max(self.peak, self.held() + extra)
        return result

    def hold(self, tensor: Tensor) -> None:
        """Counts a tensor for as long as it is alive."""
        storage = tensor.untyped_storage()
        self._alive[StorageWeakRef(storage)] = storage.nbytes()

    def held(self) -> int:
        """Returns the bytes currently alive."""
        for reference in [one for one in self._alive if one.expired()]:
            del self._alive[reference]
        return sum(self._alive.values())


@contextmanager
def metering() -> Iterator[Meter]:
    """Meters what is computed in its context, without gradients."""
    # Not inference_mode, whose tensors bypass dispatch modes.
    with torch.no_grad(), Meter() as meter:
        yield meter
