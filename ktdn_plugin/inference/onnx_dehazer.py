"""Dehazing images with an exported network, by onnxruntime alone: nothing here loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.inference.base import Dehazer
from ktdn_plugin.inference.images import LARGEST, is_tensor
from ktdn_plugin.storage.file_kinds import check_regular

if TYPE_CHECKING:
    import torch
    from torch import nn

DEVICES = ("auto", "cpu", "cuda")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
INPUT, OUTPUT = "image", "dehazed"
"""What ``ktdn export`` calls the graph's input and output."""

Values = NDArray[np.float32]


class OnnxDehazer(Dehazer):
    """Runs a ``.onnx`` file that ``ktdn export`` has made, see :class:`~ktdn_plugin.Dehazer`.

    Images are run whole, one at a time: there are no stripes, and so no memory limit.
    """

    def __init__(
        self,
        checkpoint: str | Path | nn.Module,
        *,
        device: str | torch.device = "auto",
        precision: str = "float32",
        max_memory: int | str | None = None,
        encoder: str | None = None,
        strength: float = 1.0,
        base_size: int | str = "auto",
    ) -> None:
        super().__init__(precision=precision, strength=strength, base_size=base_size)
        self._path = Path(str(checkpoint))
        if precision != "float32":
            raise KTDNError(
                f"precision {precision}: an ONNX file is run in float32; leave it out, or use the "
                "checkpoint that was exported"
            )
        if encoder is not None:
            raise KTDNError(f"encoder {encoder}: an ONNX file has its own; leave it out")
        self.max_memory = max_memory
        self._session, self.device, head = _open(self._path, str(device))
        if self._base_size == "auto" and head != "affine":
            self._base_size = "off"

    @property
    def max_memory(self) -> None:
        """None: an ONNX file is run on the whole image."""
        return None

    @max_memory.setter
    def max_memory(self, limit: int | str | None) -> None:
        if limit is not None:
            raise KTDNError(
                f"max memory {limit}: an ONNX file is run on the whole image, without stripes; "
                "leave it out, or use the checkpoint that was exported"
            )

    def needs(self, height: int, width: int) -> tuple[int, int]:
        """Raises a KTDNError: what onnxruntime needs is not known."""
        raise KTDNError("what an ONNX file needs is not known; the checkpoint that was exported is")

    def _run(self, images: Any) -> Any:
        if is_tensor(images):
            made = self._run(images.detach().movedim(1, -1).float().cpu().numpy())
            return images.new_tensor(made).movedim(-1, 1).contiguous()
        result = np.empty(images.shape, images.dtype)
        for image, place in zip(images, result, strict=True):
            place[:] = self._dehaze(image)
        return result

    def _dehaze(self, image: NDArray[Any]) -> NDArray[Any]:
        """Dehazes (h, w, 3); as in torch, the base layer of a large image is a small copy's."""
        height, width = image.shape[:2]
        result = self._apply(_to_float(image), image.dtype)
        if size := self._small_size(height, width):
            base = self._apply(_resize(_to_float(image), size), np.dtype(np.float32))
            values = _to_float(result)
            values = values + _resize(base - _resize(values, size), (height, width))
            result = _from_float(values, image.dtype)
        return result

    def _apply(self, hazy: Values, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Applies the network to (h, w, 3) in [0, 1]."""
        height, width = hazy.shape[:2]
        try:
            planes = np.ascontiguousarray(hazy.transpose(2, 0, 1)[None])
            made: Values = self._session.run([OUTPUT], {INPUT: planes})[0][0].transpose(1, 2, 0)
        # onnxruntime has exceptions of its own, for a lack of memory too.
        except Exception as error:
            raise KTDNError(
                f"{self._path}: onnxruntime cannot run it on {width} x {height} pixels "
                f"({_first_line(error)}); it takes the whole image: use a smaller one, or the "
                "checkpoint that was exported, which runs in stripes"
            ) from error
        if made.shape != hazy.shape:
            raise KTDNError(f"{self._path}: makes {made.shape} of {hazy.shape}; export it again")
        if not np.isfinite(made).all():
            raise KTDNError(
                f"{self._path}: the network's image has NaN or infinite values: its training went "
                "wrong; take another checkpoint"
            )
        if self.strength != 1:
            made = hazy + np.float32(self.strength) * (made - hazy)
        return _from_float(made, dtype)


def _to_float(image: NDArray[Any]) -> Values:
    return image.astype(np.float32) / np.float32(LARGEST[image.dtype.name])


def _from_float(values: Values, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = values.clip(0, 1)
    largest = LARGEST[dtype.name]
    return (values * np.float32(largest)).round().astype(dtype) if largest > 1 else values


def _resize(values: Values, size: tuple[int, int]) -> Values:
    """Scales (h, w, 3) bilinearly, with antialiasing when it shrinks, as torch does."""
    planes = [
        Image.fromarray(np.ascontiguousarray(values[..., channel])).resize(
            size[::-1], Image.Resampling.BILINEAR
        )
        for channel in range(3)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _open(path: Path, device: str) -> tuple[Any, str, str]:
    """Returns a file's session, the device that it runs on, and the network's head."""
    kind, _, index = device.partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdecimal())):
        raise KTDNError(
            f"device '{device}' is not one of {', '.join(DEVICES)}, which ONNX files run on"
            f"{did_you_mean(device, DEVICES)}"
        )
    check_regular(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise KTDNError(f"{path}: ONNX files need onnxruntime: pip install onnxruntime") from error
    there = onnxruntime.get_available_providers()
    if kind == "cuda" and CUDA not in there:
        raise KTDNError(
            f"there is no device '{device}' for ONNX files here (onnxruntime has "
            f"{', '.join(there)}); use cpu or auto, or install onnxruntime-gpu"
        )
    providers: list[Any] = [CPU]
    if kind != "cpu" and CUDA in there:
        # It rounds products to TF32 unless told otherwise.
        providers.insert(0, (CUDA, {"device_id": index or "0", "use_tf32": "0"}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised as well
    # It would keep the largest image's memory, and needs nearly twice as much for it.
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise KTDNError(
            f"{path}: not an ONNX file that onnxruntime can read, or a truncated one "
            f"({_first_line(error)}); copy or download it again, or export it again"
        ) from error
    runs_on_gpu = session.get_providers()[0] == CUDA
    if kind == "cuda" and not runs_on_gpu:
        raise KTDNError(
            f"device '{device}': onnxruntime cannot use it (no such GPU, or CUDA's libraries are "
            "missing); use cpu or auto"
        )
    about = session.get_modelmeta().custom_metadata_map
    signature = [
        (one.name, one.type, len(one.shape), one.shape[1] if len(one.shape) > 1 else None)
        for one in (*session.get_inputs(), *session.get_outputs())
    ]
    wanted = [(name, "tensor(float)", 4, 3) for name in (INPUT, OUTPUT)]
    if about.get("model") != "KTDN" or signature != wanted:
        what = "its metadata names no KTDN"
        if about.get("model") == "KTDN":
            shapes = (f"{one.name} {one.type} {one.shape}" for one in session.get_inputs())
            what = f"it takes {', '.join(shapes)}, not RGB images"
        raise KTDNError(
            f"{path}: an ONNX file of another network ({what}); make one with: "
            "ktdn export CHECKPOINT -o FILE.onnx"
        )
    return session, f"cuda:{index or 0}" if runs_on_gpu else "cpu", about.get("head", "tanh")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
