"""Dehazer: what is common to networks in torch and in ONNX files, without loading torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.images import check_images
from ktdn_plugin.model_zoo.weights import DEFAULT
from ktdn_plugin.photos import ReadLimits, read_photo, read_size, rgb_of
from ktdn_plugin.pipeline import BYTES_PER_PIXEL, SHARE, Pipeline, Task, usable_cores
from ktdn_plugin.system_memory import available

if TYPE_CHECKING:
    import torch
    from torch import nn

BASE_SIZES = (320, 768)
"""Bounds of the small copy's longer side: we trained on photographs of this size."""

STRONGEST = 2.0
"""Largest ``strength``: beyond it, noise amplified by removing haze drowns the scene."""

SMALLEST = 32
"""Minimum longer side of the copy, which is KTDN's minimum size."""


class Dehazer:
    """Dehazes images of any size with a trained KTDN, within a memory limit.

    Images too large for the memory are run in stripes that give the same result as the whole image:
    batch norms are folded, and global statistics are computed over the whole image. Only rounding
    differs from the plain network. Networks with the ``affine`` head, including the bundled ones,
    are also run on a small copy of a large image, see ``base_size``.

    Args:
        checkpoint: ``ktdn_small`` or ``ktdn_tiny``, which are bundled with the package; or a
            checkpoint's path, see :func:`~ktdn_plugin.checkpoints.networks.load_network`; or a
            ``.onnx`` file that ``ktdn export`` has made, which onnxruntime runs on the whole
            image, without torch (float32, no ``max_memory``, a CPU or CUDA); or a network. A
            network other than KTDN must map images (n, 3, h, w) in [0, 1] to such images, and is
            run on the whole image.
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

    device: torch.device | str
    max_memory: int | str | None
    """Memory limit in bytes, None for none; may be assigned, also as ``"4GB"``."""

    def __new__(cls, checkpoint: str | Path | nn.Module = DEFAULT, **options: Any) -> Dehazer:
        """Chooses what runs the checkpoint."""
        return super().__new__(_class_for(checkpoint) if cls is Dehazer else cls)

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
        self.precision = precision
        self.strength = strength

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
            return self(read_photo(image, self._read_limits()).pixels)
        if isinstance(image, (list, tuple)):
            return [self(one) for one in image]
        if isinstance(image, Image.Image):
            return Image.fromarray(self(rgb_of(image)))
        check_images(image)
        if image.ndim == 4:
            return self._run(image)
        return self._run(image[None])[0]

    def map(self, images: Iterable[Any], *, workers: int | None = None) -> Iterator[Any]:
        """Yields the results of many images in order, reading files ahead in threads.

        Args:
            images: Any number of what a call takes; they are asked for as they are needed.
            workers: Threads that read files; 0 reads each when its turn comes. Defaults to the
                number of CPU cores.

        Raises:
            KTDNError: As for :meth:`__call__`, in place of the image's result.

        Example:
            >>> dehaze = Dehazer("ktdn_tiny")
            >>> hazy = [np.full((60, 80, 3), value, np.uint8) for value in (150, 200)]
            >>> [result.shape for result in dehaze.map(hazy)]
            [(60, 80, 3), (60, 80, 3)]
        """
        workers = usable_cores() if workers is None else workers
        room = self.share_memory(SHARE if workers else 0)
        if room is None:
            room = int(SHARE * (available() or 2**33))
        try:
            with Pipeline(workers, room=room if workers else None) as pipeline:
                tasks = map(_ImageTask, images)
                for task in pipeline.run(tasks, self._read_one, self._map_one, _ImageTask.keep):
                    if task.error is not None:
                        raise task.error
                    yield task.image
        finally:
            self.share_memory(0)

    def _read_one(self, task: _ImageTask) -> None:
        if isinstance(task.image, (str, Path)):
            task.image = read_photo(task.image, self._read_limits()).pixels

    def _map_one(self, task: _ImageTask) -> None:
        task.image = self(task.image)

    def share_memory(self, share: float) -> int | None:
        """Reserves memory for images that the caller's threads hold during a run.

        Args:
            share: Share of the memory that is free now; 0 takes an earlier reservation back.

        Returns:
            The reserved bytes; None if the network computes elsewhere, or with what is unknown.
        """
        return None

    def needs(self, height: int, width: int) -> tuple[int, int]:
        """Returns the memory needed for an image of a given size.

        Args:
            height: The image's height.
            width: The image's width.

        Returns:
            Bytes needed by the fastest run and by the most frugal one, as ``max_memory`` counts
            them: including everything held now, and so the image itself only if already loaded.

        Raises:
            KTDNError: If the size is invalid, or what the network needs is not known.
        """
        raise NotImplementedError

    def _read_limits(self) -> ReadLimits:
        """Returns how large a photograph may be that is read from a file."""
        return ReadLimits()

    def _run(self, images: Any) -> Any:
        """Dehazes images (n, h, w, 3), or a tensor (n, 3, h, w)."""
        raise NotImplementedError

    def _small_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Returns the height and width of the copy for the base layer, None if there is none."""
        if self._base_size == "off":
            return None
        longer = max(height, width)
        least, most = BASE_SIZES
        is_auto = self._base_size == "auto"
        size = min(max(longer // 2, least), most) if is_auto else int(self._base_size)
        return small_size(height, width, size) if longer > size else None


class _ImageTask(Task):
    """An image, then its result, on the way through a pipeline."""

    def __init__(self, image: Any) -> None:
        self.image = image
        cost = 0
        if isinstance(image, (str, Path)):
            with suppress(KTDNError):  # reading it says why
                cost = BYTES_PER_PIXEL * math.prod(read_size(image))
        super().__init__(cost)

    def keep(self) -> None:
        """Does nothing: the result is the caller's."""


def is_onnx(checkpoint: Any) -> bool:
    """Returns whether a checkpoint is an ONNX file, by its name."""
    return isinstance(checkpoint, (str, Path)) and Path(checkpoint).suffix.lower() == ".onnx"


def _class_for(checkpoint: Any) -> type[Dehazer]:
    if is_onnx(checkpoint):
        from ktdn_plugin.inference.onnx_dehazer import OnnxDehazer

        return OnnxDehazer
    from ktdn_plugin.inference.dehazer import TorchDehazer

    return TorchDehazer


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


def small_size(height: int, width: int, longer_side: int) -> tuple[int, int]:
    """Returns an image's height and width once its longer side is scaled to ``longer_side``."""
    scale = longer_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
