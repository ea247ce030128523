"""Dehazing images with a network in torch, within a memory limit."""

from __future__ import annotations

import copy
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ktdn_plugin.allocator import return_freed_memory
from ktdn_plugin.archs import KTDN
from ktdn_plugin.errors import KTDNError, TooLittleMemoryError, is_out_of_memory
from ktdn_plugin.inference.base import Dehazer
from ktdn_plugin.inference.base_layer import replace_base, shrink_images
from ktdn_plugin.inference.devices import computing, find_device, find_precision
from ktdn_plugin.inference.engine import Engine
from ktdn_plugin.inference.frames import Frames, padding
from ktdn_plugin.inference.memory import Memory
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory
from ktdn_plugin.inference.out_of_memory import word_out_of_memory, word_too_little
from ktdn_plugin.inference.planning import Plan, Planner
from ktdn_plugin.model_zoo.weights import DEFAULT
from ktdn_plugin.photos import ReadLimits

_BUSY: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
"""Serialises runs on a device, as each is planned for the free memory."""

_JITTER = 1.02  # a process's memory varies slightly from run to run


class TorchDehazer(Dehazer):
    """Runs a network in torch, see :class:`~ktdn_plugin.Dehazer`."""

    device: torch.device

    def __init__(
        self,
        checkpoint: str | Path | nn.Module = DEFAULT,
        *,
        device: str | torch.device = "auto",
        precision: str = "float32",
        max_memory: int | str | None = None,
        encoder: str | None = None,
        strength: float = 1.0,
        base_size: int | str = "auto",
    ) -> None:
        super().__init__(precision=precision, strength=strength, base_size=base_size)
        self.device = find_device(device)
        dtype = find_precision(precision, self.device)
        # Report what is unavailable before reading a file.
        limit = None if max_memory is None else parse_memory(max_memory)
        if limit is not None and self.device.type == "cpu":
            return_freed_memory()  # before loading, which frees a lot
        is_file = not isinstance(checkpoint, nn.Module)
        if not is_file and encoder is not None:
            raise KTDNError("encoder: goes with a checkpoint's path; a network has its own")
        network = checkpoint if isinstance(checkpoint, nn.Module) else _load(checkpoint, encoder)
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        self._memory = Memory(self.device, None)
        self._other: nn.Module | None = None
        self._planner: Planner | None = None
        if isinstance(network, KTDN):
            try:
                with torch.inference_mode(False):
                    engine = Engine(network, self.device, dtype, uses_up=is_file)
            except KTDNError as error:
                raise KTDNError(f"{checkpoint}: {error}" if is_file else str(error)) from error
            self._planner = Planner(engine)
        else:
            with torch.inference_mode(False):
                other = copy.deepcopy(network)
            self._other = other.eval().requires_grad_(False).to(self.device, dtype)
        is_affine = isinstance(network, KTDN) and network.head == "affine"
        if self._base_size == "auto" and not is_affine:
            self._base_size = "off"
        del network  # before memory is measured
        self.max_memory = limit

    @property
    def max_memory(self) -> int | None:
        """Memory limit in bytes, None for the free memory; accepts strings such as ``"4GB"``."""
        return self._memory.limit

    @max_memory.setter
    def max_memory(self, limit: int | str | None) -> None:
        if limit is not None and self._planner is None:
            raise KTDNError("max_memory: only for KTDN; other networks run on the whole image")
        self._memory.limit = None if limit is None else parse_memory(limit)
        if limit is not None and self.device.type == "cpu":
            return_freed_memory()

    def _read_limits(self) -> ReadLimits:
        of_process = self.max_memory if self.device.type == "cpu" else None
        return ReadLimits(max_memory=of_process)

    def needs(self, height: int, width: int) -> tuple[int, int]:
        """Returns the memory needed for an image of a given size, see :meth:`Dehazer.needs`."""
        if height < 1 or width < 1:
            raise KTDNError(f"there is no image of {width} x {height} pixels")
        if self._planner is None:
            raise KTDNError("what another network than KTDN needs is not known")
        frames = Frames(np.empty((1, height, width, 3), np.uint8), self.device)
        with torch.inference_mode(False):
            fast, least = (self._planner.plan(1, frames.size, budget).peak for budget in (None, 0))
            if small := self._small_size(frames.height, frames.width):
                copies = 12 * (height * small[1] + 3 * small[0] * small[1])  # held while shrinking
                padded = len(padding(small[0])), len(padding(small[1]))
                least = max(least, self._planner.plan(1, padded, 0).peak + copies)
                fast = max(fast, least)
        held = self._memory.held()  # after planning, which probes the network
        return self._total(held, frames, fast), self._total(held, frames, least)

    def share_memory(self, share: float) -> int | None:
        """Reserves memory for the caller's threads, see :meth:`Dehazer.share_memory`."""
        self._memory.reserved = 0
        free = self._memory.free() if self.device.type == "cpu" else None
        if free is None:
            return None
        self._memory.reserved = int(share * max(free, 0))
        return self._memory.reserved

    def _run(self, images: NDArray[Any] | Tensor) -> Any:
        frames = Frames(images, self.device, self.strength)
        if len(images):
            self.run(frames)
            if size := self._small_size(frames.height, frames.width):
                small = Frames(shrink_images(frames, size), self.device, self.strength)
                self.run(small)
                replace_base(frames, small.result)
        return frames.result

    def run(self, frames: Frames) -> None:
        """Dehazes images with the network alone, without replacing the base layer.

        Images are read and written a few rows at a time.

        Args:
            frames: The images; on :attr:`device`.

        Raises:
            KTDNError: As for :meth:`__call__`.
        """
        place = f"{self.device.type}:{self.device.index or 0}"
        with _BUSY[place], self._explaining(frames):
            if self._planner is None:
                assert self._other is not None
                with computing(self.precision):
                    self._run_other(self._other, frames)
            else:
                self._run_ktdn(self._planner, frames)

    def _run_other(self, network: nn.Module, frames: Frames) -> None:
        dtype = next((one.dtype for one in network.parameters()), torch.float32)
        image = frames.read(0, frames.size[0])[:, :, : frames.height, : frames.width].to(dtype)
        made = network(image)
        if not isinstance(made, Tensor) or made.shape != image.shape:
            what = tuple(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise KTDNError(
                f"this network makes {what} of {tuple(image.shape)}; Dehazer needs one that makes "
                "an image of the same size"
            )
        self._require(made.isfinite().all())
        frames.write(0, frames.height, made.float())

    def _run_ktdn(self, planner: Planner, frames: Frames) -> None:
        images = frames.images
        plan = self._plan(planner, frames, len(images))
        if plan is None and len(images) > 1:
            for number in range(len(images)):
                one = Frames(images[number : number + 1], self.device, self.strength)
                self.run(one)
                frames.result[number] = one.result[0]
            return
        if plan is None:
            raise TooLittleMemoryError(self._too_little(planner, frames))
        finite = torch.ones((), dtype=torch.bool, device=self.device)

        def emit(top: int, bottom: int, values: Tensor) -> None:
            nonlocal finite
            finite = finite & values.isfinite().all()
            frames.write(top, bottom, values)

        # Not around planning, which probes the network in float32: that would wait for itself.
        with computing(self.precision):
            planner.engine.run(frames.read, frames.size, emit, plan.heights)
            self._require(finite)

    def _require(self, finite: Tensor) -> None:
        if not finite:
            raise KTDNError(
                f"the network's image has NaN or infinite values in precision {self.precision}"
                + (
                    "; take bf16, or float32"
                    if self.precision == "fp16"
                    else ": its training went wrong; take another checkpoint"
                )
            )

    def _plan(self, planner: Planner, frames: Frames, count: int) -> Plan | None:
        """Plans a run; returns None if none fits."""
        budget = self._budget(frames)
        # Metering on meta tensors only works outside inference mode.
        with torch.inference_mode(False):
            plan = planner.plan(count, frames.size, budget)
            # The first plan for a size probes the network, which keeps some memory.
            budget = self._budget(frames)
            if budget is not None and plan.peak > budget:
                plan = planner.plan(count, frames.size, budget)
        return plan if budget is None or plan.peak <= budget else None

    def _budget(self, frames: Frames) -> int | None:
        """Returns the bytes that a run may take, None if unknown."""
        free = self._memory.free()
        return None if free is None else free - self._waiting(frames)

    def _waiting(self, frames: Frames) -> int:
        """Returns the bytes of the result that will only be touched as it is written."""
        result = frames.result
        if isinstance(result, Tensor):
            return 0 if self.device.type == "cuda" else result.nbytes
        return int(result.nbytes) if self.device.type == "cpu" else 0

    def _total(self, held: int, frames: Frames, peak: int) -> int:
        """Returns the bytes at the peak of a run, as ``max_memory`` counts them."""
        return int((held + self._waiting(frames) + peak) * _JITTER)

    def _too_little(self, planner: Planner, frames: Frames) -> str:
        with torch.inference_mode(False):
            least = planner.plan(1, frames.size, 0).peak
        limit, held = self._memory.limit, 0
        if limit is not None:
            given = f"max memory {format_memory(limit)}"
            held = self._memory.held()
            needed = self._total(held, frames, least)
        else:
            free = self._memory.free() or 0
            given = f"the {format_memory(free)} that may be taken on {self.device}"
            needed = int((self._waiting(frames) + least) * _JITTER)
        return word_too_little(frames, given, self.precision, needed, held)

    @contextmanager
    def _explaining(self, frames: Frames) -> Iterator[None]:
        """Turns a device's out-of-memory error into one that explains it."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # The traceback would keep the run's memory alive for as long as it is handled.
            traceback.clear_frames(error.__traceback__)
            needed = None
            if self._planner is not None:
                with torch.inference_mode(False):
                    least = self._planner.plan(1, frames.size, 0).peak
                needed = self._total(self._memory.held(), frames, least)
            raise KTDNError(word_out_of_memory(frames, self.precision, needed)) from error


def _load(path: str | Path, encoder: str | None) -> KTDN:
    # Imported late: it pulls in every checkpoint layout.
    from ktdn_plugin.checkpoints.networks import load_network

    # Some programs, such as ComfyUI, run everything in inference mode.
    with torch.inference_mode(False):
        return load_network(path, encoder)
