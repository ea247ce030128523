"""Dehazing images with a trained network: many kinds of image in, the same kind out."""

from __future__ import annotations

import copy
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ktdn_plugin.allocator import return_freed_memory
from ktdn_plugin.archs import KTDN
from ktdn_plugin.errors import KTDNError, is_out_of_memory
from ktdn_plugin.inference.base_layer import SMALLEST, replace_base, shrink_images, small_size
from ktdn_plugin.inference.devices import computing, find_device, find_precision
from ktdn_plugin.inference.engine import Engine
from ktdn_plugin.inference.frames import Frames, check_images, padding
from ktdn_plugin.inference.memory import Memory
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory
from ktdn_plugin.inference.out_of_memory import word_out_of_memory, word_too_little
from ktdn_plugin.inference.planning import Plan, Planner
from ktdn_plugin.model_zoo.weights import DEFAULT

_BUSY: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
"""Serialises runs on a device, as each is planned for the free memory."""

BASE_SIZES = (320, 768)
"""Bounds of the small copy's longer side: we trained on photographs of this size."""

STRONGEST = 2.0
"""Largest ``strength``: beyond it, noise amplified by removing haze drowns the scene."""

_JITTER = 1.02  # a process's memory varies slightly from run to run


class Dehazer:
    """Dehazes images of any size with a trained KTDN, within a memory limit.

    Images too large for the memory are run in stripes that give the same result as the whole image:
    batch norms are folded, and global statistics are computed over the whole image. Only rounding
    differs from the plain network. Networks with the ``affine`` head, including the bundled ones,
    are also run on a small copy of a large image, see ``base_size``.

    Args:
        checkpoint: ``ktdn_small`` or ``ktdn_tiny``, which are bundled with the package; or a
            checkpoint's path, see :func:`~ktdn_plugin.checkpoints.networks.load_network`; or a
            network. A network other than KTDN must map images (n, 3, h, w) in [0, 1] to such
            images, and is run on the whole image.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``float32``, ``tf32``, ``bf16`` or ``fp16``.
        max_memory: Memory limit, in bytes or as ``"4GB"``: for the whole process on a CPU, for
            tensors on a GPU. Defaults to the free memory. KTDN only. On a CPU with glibc, setting
            it makes the process return freed memory immediately from then on.
        encoder: The network's timm backbone, if the file does not specify it.
        strength: How much of the network's change is applied, in [0, 2]: 0 leaves an image
            unchanged, 1 gives the network's output, 2 doubles the change.
        base_size: Longer side in pixels of a small copy that gives a larger image its colours and
            remaining haze, while the detail comes from the image itself, see
            :mod:`~ktdn_plugin.inference.base_layer`. ``off``: the network's output for the whole
            image, as in the paper. ``auto``: for the ``affine`` head half the image's longer
            side, clamped to 320 to 768 pixels; otherwise ``off``.

    A network passed in is left unchanged: a copy is run, in eval mode. Concurrent calls from
    several threads are serialised.

    Raises:
        KTDNError: If the checkpoint cannot be loaded, its weights are not finite, or the device,
            precision or memory is not available.

    Example:
        >>> dehaze = Dehazer()  # ktdn_small
        >>> hazy = np.full((90, 120, 3), 200, np.uint8)
        >>> dehaze(hazy).shape
        (90, 120, 3)
    """

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
        self._base_size = parse_base_size(base_size)
        self.device = find_device(device)
        self.precision = precision
        dtype = find_precision(precision, self.device)
        # Report what is unavailable before reading a file.
        limit = None if max_memory is None else parse_memory(max_memory)
        self.strength = strength
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
    def strength(self) -> float:
        """How much of the network's change is applied, in [0, 2]; may be assigned."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        # Written so that NaN fails too.
        is_number = isinstance(strength, Real) and not isinstance(strength, bool)
        if not is_number or not 0 <= strength <= STRONGEST:
            raise KTDNError(
                f"strength: {strength!r} is not in [0, {STRONGEST:g}]; 0 leaves a photo as it is, "
                "1 applies the network's change, more exaggerates it"
            )
        self._strength = float(strength)

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

    def __call__(self, image: Any) -> Any:
        """Dehazes an image or several.

        Args:
            image: One of

                - a file's path;
                - an RGB array (h, w, 3) or (n, h, w, 3) of uint8, uint16, or float32 in [0, 1];
                - a floating-point tensor (3, h, w) or (n, 3, h, w), RGB in [0, 1];
                - an 8-bit or 16-bit Pillow image, which becomes 8-bit RGB;
                - a list or tuple of these.

        Returns:
            The same kind, type and shape; for a path an RGB array (h, w, 3) with the file's bit
            depth (8 or 16); for a list a list. Values are clamped to the type's range.

        Raises:
            KTDNError: If it is none of these, or there is not enough memory.
        """
        if isinstance(image, (str, Path)):
            from ktdn_plugin.photos import ReadLimits, read_photo

            of_process = self.max_memory if self.device.type == "cpu" else None
            return self(read_photo(image, ReadLimits(max_memory=of_process)).pixels)
        if isinstance(image, (list, tuple)):
            return [self(one) for one in image]
        if isinstance(image, Image.Image):
            from ktdn_plugin.photos import rgb_of

            return Image.fromarray(self(rgb_of(image)))
        check_images(image)
        if image.ndim == 4:
            return self._run(image)
        return self._run(image[None])[0]

    def needs(self, height: int, width: int) -> tuple[int, int]:
        """Returns the memory needed for an image of a given size.

        Args:
            height: The image's height.
            width: The image's width.

        Returns:
            Bytes needed by the fastest run and by the most frugal one, as ``max_memory`` counts
            them: including everything held now, and so the image itself only if already loaded.

        Raises:
            KTDNError: If the size is invalid, or the network is not KTDN.
        """
        if height < 1 or width < 1:
            raise KTDNError(f"there is no image of {width} x {height} pixels")
        if self._planner is None:
            raise KTDNError("what another network than KTDN needs is not known")
        frames = Frames(np.empty((1, height, width, 3), np.uint8), self.device)
        with torch.inference_mode(False):
            fast, least = (self._planner.plan(1, frames.size, budget).peak for budget in (None, 0))
            if small := self._small_size(frames):
                copies = 12 * (height * small[1] + 3 * small[0] * small[1])  # held while shrinking
                padded = len(padding(small[0])), len(padding(small[1]))
                least = max(least, self._planner.plan(1, padded, 0).peak + copies)
                fast = max(fast, least)
        held = self._memory.held()  # after planning, which probes the network
        return self._total(held, frames, fast), self._total(held, frames, least)

    def _run(self, images: NDArray[Any] | Tensor) -> Any:
        frames = Frames(images, self.device, self.strength)
        if len(images):
            self.run(frames)
            if size := self._small_size(frames):
                small = Frames(shrink_images(frames, size), self.device, self.strength)
                self.run(small)
                replace_base(frames, small.result)
        return frames.result

    def _small_size(self, frames: Frames) -> tuple[int, int] | None:
        """Returns the height and width of the copy for the base layer, None if there is none."""
        if self._base_size == "off":
            return None
        longer = max(frames.height, frames.width)
        least, most = BASE_SIZES
        is_auto = self._base_size == "auto"
        size = min(max(longer // 2, least), most) if is_auto else int(self._base_size)
        return small_size(frames.height, frames.width, size) if longer > size else None

    def run(self, frames: Frames) -> None:
        """Dehazes images with the network alone, without replacing the base layer.

        Images are read and written a few rows at a time.

        Args:
            frames: The images; on :attr:`device`.

        Raises:
            KTDNError: As for :meth:`__call__`.
        """
        place = f"{self.device.type}:{self.device.index or 0}"
        with _BUSY[place], computing(self.precision), self._explaining(frames):
            if self._planner is None:
                assert self._other is not None
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
            raise KTDNError(self._too_little(planner, frames))
        finite = torch.ones((), dtype=torch.bool, device=self.device)

        def emit(top: int, bottom: int, values: Tensor) -> None:
            nonlocal finite
            finite = finite & values.isfinite().all()
            frames.write(top, bottom, values)

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


def parse_base_size(base_size: int | str) -> int | str:
    """Returns ``auto``, ``off`` or a number of pixels, which may be given as a string.

    Raises:
        KTDNError: If it is none of these, or the number is below 32.
    """
    if isinstance(base_size, str) and base_size.isdecimal():
        base_size = int(base_size)
    if isinstance(base_size, bool) or (
        base_size < SMALLEST if isinstance(base_size, int) else base_size not in ("auto", "off")
    ):
        raise KTDNError(
            f"base_size: {base_size!r} is not auto, off or a number of pixels from {SMALLEST} up"
        )
    return base_size


def _load(path: str | Path, encoder: str | None) -> KTDN:
    # Imported late: it pulls in every checkpoint layout.
    from ktdn_plugin.checkpoints.networks import load_network

    # Some programs, such as ComfyUI, run everything in inference mode.
    with torch.inference_mode(False):
        return load_network(path, encoder)
