"""Dehazing images with a trained network: images of many kinds in, the same kind out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ktdn_plugin.acceleration import return_freed_memory
from ktdn_plugin.archs import KTDN
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.devices import computing, find_device, find_precision
from ktdn_plugin.inference.engine import Engine
from ktdn_plugin.inference.frames import LARGEST, Frames
from ktdn_plugin.inference.memory import Memory
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory
from ktdn_plugin.inference.planning import Plan, Planner
from ktdn_plugin.inference.tiles import run_in_tiles


class Dehazer:
    """Dehazes images of any size with a trained KTDN, exactly, within the memory that is given.

    What is too large for the memory is run in stripes that give the result of the whole image:
    batch norms are folded, and what follows from all of an image is computed over all of it. The
    difference from the plain network is that of rounding.

    Args:
        checkpoint: A checkpoint's path, see
            :func:`~ktdn_plugin.checkpoint_networks.load_network`; or a network. A network that is
            not KTDN has to map images (n, 3, h, w) in [0, 1] to such images.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``float32``, ``tf32``, ``bf16`` or ``fp16``.
        max_memory: Most memory to take, in bytes or as ``"4GB"``: on a CPU by the whole process,
            on a GPU by its tensors. Without it, what is free. Only for KTDN.
        encoder: The network's timm backbone, where the file does not tell.
        tile: Only for networks that are not KTDN: run them on tiles of so many pixels.
        tile_overlap: Pixels that neighbouring tiles share.

    Raises:
        KTDNError: If the checkpoint cannot be loaded, or device, precision or memory cannot be had.
    """

    def __init__(
        self,
        checkpoint: str | Path | nn.Module,
        *,
        device: str | torch.device = "auto",
        precision: str = "float32",
        max_memory: int | str | None = None,
        encoder: str | None = None,
        tile: int | None = None,
        tile_overlap: int = 32,
    ) -> None:
        self.device = find_device(device)
        self.precision = precision
        dtype = find_precision(precision, self.device)
        if isinstance(checkpoint, nn.Module):
            network = checkpoint
        else:
            # Imported late: it knows all of a checkpoint's layouts.
            from ktdn_plugin.checkpoint_networks import load_network

            network = load_network(checkpoint, encoder)
        self._memory = Memory(self.device, None)
        self._tile = tile, tile_overlap
        self._other: nn.Module | None = None
        self._planner: Planner | None = None
        if isinstance(network, KTDN):
            if tile is not None:
                raise KTDNError("tile: KTDN needs none; max_memory bounds it, exactly")
            # Some programs, ComfyUI among them, run all in inference mode.
            with torch.inference_mode(False):
                self._planner = Planner(Engine(network, self.device, dtype))
        else:
            self._other = network.eval().to(self.device, dtype)
        self.max_memory = max_memory

    @property
    def max_memory(self) -> int | None:
        """Most bytes to take, None for what is free; a text such as ``"4GB"`` may be assigned."""
        return self._memory.limit

    @max_memory.setter
    def max_memory(self, limit: int | str | None) -> None:
        self._memory.limit = None if limit is None else parse_memory(limit)
        if limit is not None and self._planner is None:
            raise KTDNError("max_memory: only for KTDN; give other networks a tile's size")
        if limit is not None and self.device.type == "cpu":
            return_freed_memory()

    def __call__(self, image: Any) -> Any:
        """Dehazes.

        Args:
            image: One of

                - a file's path;
                - an RGB array (h, w, 3) or (n, h, w, 3) of uint8, uint16, or float32 in [0, 1];
                - a tensor (3, h, w) or (n, 3, h, w) of floating point, RGB in [0, 1];
                - a list or tuple of these.

        Returns:
            The same: kind, type and shape; of a path the RGB array (h, w, 3), 8 or 16 bit as the
            file has it; a list of a list. Values are clamped to the type's range.

        Raises:
            KTDNError: If it is nothing of that kind, or the memory does not suffice.
        """
        if isinstance(image, (str, Path)):
            from ktdn_plugin.photos import read_photo

            return self(read_photo(image).pixels)
        if isinstance(image, (list, tuple)):
            return [self(one) for one in image]
        if isinstance(image, Tensor):
            _check(image.shape, image.is_floating_point(), image.dtype, channels=-3)
        elif isinstance(image, np.ndarray):
            _check(image.shape, image.dtype.name in LARGEST, image.dtype, channels=-1)
        else:
            raise KTDNError(
                f"an image is a path, an array or a tensor, not a {type(image).__name__}"
            )
        if image.ndim == 4:
            return self._run(image)
        return self._run(image[None])[0]

    def needs(self, height: int, width: int) -> tuple[int, int]:
        """Tells what an image of some size takes.

        Args:
            height: Its height.
            width: Its width.

        Returns:
            Bytes of the fastest run, and of the most frugal one, as ``max_memory`` counts them.

        Raises:
            KTDNError: If the network is not KTDN.
        """
        if self._planner is None:
            raise KTDNError("what another network than KTDN needs is not known")
        frames = Frames(np.empty((1, height, width, 3), np.uint8), self.device)
        held = self._memory.held() + self._waiting(frames)
        return tuple(  # type: ignore[return-value]
            held + self._planner.plan(1, frames.size, budget).peak for budget in (None, 0)
        )

    def _run(self, images: NDArray[Any] | Tensor) -> Any:
        frames = Frames(images, self.device)
        if len(images):
            self.run(frames)
        return frames.result

    def run(self, frames: Frames) -> None:
        """Dehazes images that are read and written some rows at a time.

        Args:
            frames: The images; on :attr:`device`.

        Raises:
            KTDNError: As a call does.
        """
        with computing(self.precision), self._explaining(frames):
            if self._planner is None:
                self._run_other(frames)
            else:
                self._run_ktdn(self._planner, frames)

    def _run_ktdn(self, planner: Planner, frames: Frames) -> None:
        images = frames.images
        plan = self._plan(planner, frames, len(images))
        if plan is None and len(images) > 1:
            for number in range(len(images)):
                frames.result[number] = self._run(images[number : number + 1])[0]
            return
        if plan is None:
            raise KTDNError(self._too_little(planner, frames))
        finite = torch.ones((), dtype=torch.bool, device=self.device)

        def emit(top: int, bottom: int, values: Tensor) -> None:
            nonlocal finite
            finite = finite & values.isfinite().all()
            frames.write(top, bottom, values)

        planner.engine.run(frames.read, frames.size, emit, plan.heights)
        if not finite:
            raise KTDNError(
                f"the network's image is not finite in precision {self.precision}"
                + ("; take bf16, or float32" if self.precision == "fp16" else "; it holds no image")
            )

    def _run_other(self, frames: Frames) -> None:
        assert self._other is not None
        other = self._other
        dtype = next((p.dtype for p in other.parameters()), torch.float32)
        height, width = frames.height, frames.width
        image = frames.read(0, frames.size[0])[:, :, :height, :width].to(dtype)
        tile, overlap = self._tile
        made = run_in_tiles(other, image, tile or max(height, width), overlap if tile else 0)
        frames.write(0, height, made)

    def _plan(self, planner: Planner, frames: Frames, count: int) -> Plan | None:
        """Plans a run; None where none fits."""
        free = self._memory.free()
        budget = None if free is None else free - self._waiting(frames)
        # Meters on tensors without content work outside of inference mode only.
        with torch.inference_mode(False):
            plan = planner.plan(count, frames.size, budget)
        return plan if budget is None or plan.peak <= budget else None

    def _waiting(self, frames: Frames) -> int:
        """Bytes of the result, which fill up while it is written."""
        result = frames.result
        if isinstance(result, Tensor):
            return 0 if self.device.type == "cuda" else result.nbytes
        return int(result.nbytes) if self.device.type == "cpu" else 0

    def _too_little(self, planner: Planner, frames: Frames) -> str:
        with torch.inference_mode(False):
            least = planner.plan(1, frames.size, 0)
        needed = self._memory.held() + self._waiting(frames) + least.peak
        limit = self._memory.limit
        given = (
            f"max memory {format_memory(limit)}"
            if limit is not None
            else f"the free memory of {self.device}"
        )
        smaller = "" if self.precision in ("bf16", "fp16") else " (precision bf16 about half of it)"
        return (
            f"{frames.width} x {frames.height} pixels do not fit into {given} in precision "
            f"{self.precision}; {format_memory(int(needed * 1.02))} would do{smaller}"
        )

    @contextmanager
    def _explaining(self, frames: Frames) -> Iterator[None]:
        """Words what a device says that has no memory left."""
        try:
            yield
        except RuntimeError as error:
            text = str(error).lower()
            if not ("out of memory" in text or "can't allocate memory" in text):
                raise
            size = f"{frames.width} x {frames.height} pixels"
            if self._planner is None:
                raise KTDNError(
                    f"out of memory: {size} on {self.device} in precision {self.precision}; give "
                    "a tile's size, or a smaller one"
                ) from error
            with torch.inference_mode(False):
                least = self._planner.plan(1, frames.size, 0).peak
            needed = self._memory.held() + self._waiting(frames) + least
            raise KTDNError(
                f"out of memory: {size} on {self.device} in precision {self.precision}; give "
                f"--max-memory {format_memory(int(needed * 1.02))} (max_memory=), the least that "
                "does, if so much is free"
            ) from error


def _check(shape: Sequence[int], is_known: bool, dtype: object, channels: int) -> None:
    kind = "a tensor is (3, h, w) or (n, 3, h, w)" if channels == -3 else "an array is (h, w, 3)"
    if len(shape) not in (3, 4) or shape[channels] != 3 or 0 in shape[-3:]:
        raise KTDNError(f"{kind}, RGB; got {tuple(shape)}")
    if not is_known:
        types = "floating point" if channels == -3 else "uint8, uint16 or float32 in [0, 1]"
        raise KTDNError(f"{kind} of {types}; got {dtype}")
