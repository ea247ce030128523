"""KTDN for ComfyUI: nodes that dehaze, and KTDN's files in ComfyUI's own upscale nodes.

Copied into ComfyUI's folder ``custom_nodes`` by ``ktdn comfyui``; ComfyUI imports it from there.
The work is done by the package ktdn_plugin, which has to be installed in ComfyUI's own Python.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import torch

    from ktdn_plugin.errors import KTDNError
    from ktdn_plugin.inference import Dehazer
    from ktdn_plugin.inference.base import STRONGEST
    from ktdn_plugin.inference.devices import PRECISIONS
    from ktdn_plugin.model_zoo.weights import SHIPPED, resolve_checkpoint
    from ktdn_plugin.spandrel import install
except ImportError as error:
    raise ImportError(
        f"the KTDN node needs the package ktdn-plugin in ComfyUI's own Python, {sys.executable} "
        f"({error})"
    ) from error

if TYPE_CHECKING:
    from torch import Tensor

FOLDERS = ("ktdn", "upscale_models")
"""Folders of ``models`` in which checkpoints are looked for; the first one is ours."""

SUFFIXES = (".pth", ".safetensors")
MODEL = "KTDN_MODEL"
"""What ComfyUI calls the wire from the one node to the other."""

GB = 10**9
ROOM = 2 * GB
"""What is made free of other networks on the device where nobody says how much."""


def _checkpoints() -> dict[str, Path]:
    """Finds the checkpoints that can be chosen, by name; ComfyUI keeps the list up to date."""
    import folder_paths

    own, others = FOLDERS
    folder_paths.add_model_folder_path(own, str(Path(folder_paths.models_dir) / own))
    found: dict[str, Path] = {}
    for folder in (own, others):
        for name in folder_paths.get_filename_list(folder):
            path = folder_paths.get_full_path(folder, name)
            if path is not None and Path(name).suffix.lower() in SUFFIXES:
                found.setdefault(name, Path(path))
    return found


def _version(path: Path) -> tuple[int, int]:
    """Returns what differs where a file has changed under its name."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=2)
def _dehazer(
    path: Path, version: tuple[int, int], device: str, precision: str, limit: int | None
) -> Dehazer:
    """Makes a checkpoint ready to dehaze, unless it is one of those that were last."""
    from comfy import model_management

    model_management.free_memory(limit or ROOM, torch.device(device))
    # ComfyUI runs nodes in inference mode, in which no network can be looked into.
    with torch.inference_mode(False):
        return Dehazer(path, device=device, precision=precision, max_memory=limit)


def _load(checkpoint: str, device: str, precision: str, max_memory: float) -> Dehazer:
    """Loads a checkpoint by the name that was chosen.

    Raises:
        KTDNError: If there is no such checkpoint, it is not a KTDN's, or an option is impossible.
    """
    from comfy import model_management

    path = resolve_checkpoint(checkpoint) if checkpoint in SHIPPED else None
    path = path or _checkpoints().get(checkpoint)
    if path is None:
        raise KTDNError(
            f"{checkpoint}: no such checkpoint in models/{' or models/'.join(FOLDERS)}; put it "
            "there and reload the page"
        )
    place = str(model_management.get_torch_device()) if device == "auto" else device
    return _dehazer(path, _version(path), place, precision, round(max_memory * GB) or None)


def _apply(dehazer: Dehazer, image: Tensor, strength: float) -> tuple[Tensor]:
    """Dehazes a batch (n, h, w, 3), or with alpha (n, h, w, 4), which is kept.

    Raises:
        KTDNError: If it is no such batch, or the memory is too little.
    """
    from comfy import model_management, utils

    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise KTDNError(f"IMAGE: expected (n, h, w, 3), got {tuple(image.shape)}")
    dehazer.strength = strength
    # Other networks wait outside of the device; ComfyUI brings them back when they are due.
    model_management.free_memory(dehazer.max_memory or ROOM, dehazer.device)
    progress = utils.ProgressBar(len(image))
    results = []
    for one in image:
        model_management.throw_exception_if_processing_interrupted()
        pixels = one[..., :3].movedim(-1, 0)
        result = dehazer(pixels).movedim(0, -1)
        results.append(torch.cat([result, one[..., 3:]], dim=-1))
        progress.update(1)
    return (torch.stack(results),)


def _checkpoint_inputs() -> dict[str, tuple]:
    text = "one shipped with ktdn-plugin, or one in models/ktdn or models/upscale_models"
    return {"checkpoint": ([*SHIPPED, *sorted(_checkpoints())], {"tooltip": text})}


def _device_inputs() -> dict[str, tuple]:
    memory = {
        "default": 0.0,
        "min": 0.0,
        "max": 1024.0,
        "step": 0.01,
        "tooltip": "memory limit for ComfyUI in GB: on a GPU for its tensors, "
        "on a CPU for the whole process; 0: all that is free",
    }
    return {
        "device": (["auto", "cpu", "cuda", "mps"], {"tooltip": "auto: ComfyUI's own"}),
        "precision": (list(PRECISIONS), {}),
        "max_memory": ("FLOAT", memory),
    }


def _strength_inputs() -> dict[str, tuple]:
    strength = {
        "default": 1.0,
        "min": 0.0,
        "max": STRONGEST,
        "step": 0.05,
        "tooltip": "how much of the haze to remove: 0.7 leaves some, 1 is the full change",
    }
    return {"strength": ("FLOAT", strength)}


def _changed(checkpoint: str) -> tuple[int, int] | None:
    """Returns what differs where a checkpoint's file has changed under its name."""
    path = None if checkpoint in SHIPPED else _checkpoints().get(checkpoint)
    return None if path is None else _version(path)


class KTDNLoader:
    """The node "Load KTDN": reads a checkpoint once, for any number of images and strengths."""

    CATEGORY = "loaders"
    DESCRIPTION = "Loads a trained KTDN, for the node Apply KTDN."
    FUNCTION = "load"
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("ktdn_model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        """Returns what the node takes, as ComfyUI asks."""
        return {"required": _checkpoint_inputs(), "optional": _device_inputs()}

    @classmethod
    def IS_CHANGED(cls, checkpoint: str, **inputs: Any) -> tuple[int, int] | None:
        """Has ComfyUI load it again where the file has changed under its name."""
        return _changed(checkpoint)

    def load(
        self,
        checkpoint: str,
        device: str = "auto",
        precision: str = "float32",
        max_memory: float = 0.0,
    ) -> tuple[Dehazer]:
        """Loads a checkpoint; the arguments are those of :meth:`KTDNDehaze.dehaze`."""
        return (_load(checkpoint, device, precision, max_memory),)


class KTDNApply:
    """The node "Apply KTDN": dehazes with what "Load KTDN" has loaded."""

    CATEGORY = "image/restoration"
    DESCRIPTION = "Removes haze from images of any size; large ones run in exact stripes."
    FUNCTION = "apply"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        """Returns what the node takes, as ComfyUI asks."""
        required = {"ktdn_model": (MODEL,), "image": ("IMAGE",)}
        return {"required": required, "optional": _strength_inputs()}

    def apply(self, ktdn_model: Dehazer, image: Tensor, strength: float = 1.0) -> tuple[Tensor]:
        """Dehazes a batch; the arguments are those of :meth:`KTDNDehaze.dehaze`."""
        return _apply(ktdn_model, image, strength)


class KTDNDehaze:
    """The node "Dehaze (KTDN)": both in one, as workflows have it from before there were two."""

    CATEGORY = "image/restoration"
    DESCRIPTION = "Removes haze with a trained KTDN. Large images are processed in exact stripes."
    FUNCTION = "dehaze"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        """Returns what the node takes, as ComfyUI asks."""
        return {
            "required": {"image": ("IMAGE",), **_checkpoint_inputs()},
            # In this order, as ComfyUI's saved workflows list values by position.
            "optional": {**_device_inputs(), **_strength_inputs()},
        }

    @classmethod
    def IS_CHANGED(cls, checkpoint: str, **inputs: Any) -> tuple[int, int] | None:
        """Has ComfyUI run the node again where the file has changed under its name."""
        return _changed(checkpoint)

    def dehaze(
        self,
        image: Tensor,
        checkpoint: str,
        device: str = "auto",
        precision: str = "float32",
        max_memory: float = 0.0,
        strength: float = 1.0,
    ) -> tuple[Tensor]:
        """Dehazes a batch.

        Args:
            image: (n, h, w, 3) float in [0, 1], as ComfyUI's images are; a fourth channel, alpha,
                is kept as it is.
            checkpoint: One that comes with the package, or a file's name in one of
                :data:`FOLDERS`.
            device: ``auto`` for ComfyUI's own, ``cpu``, ``cuda`` or ``mps``.
            precision: One of :data:`PRECISIONS`.
            max_memory: Most memory to hold, in GB, see :class:`~ktdn_plugin.Dehazer`: on a GPU
                ComfyUI's tensors, on a CPU its whole process; 0 for what is free.
            strength: How much of the network's change is applied, in [0, 2].

        Returns:
            The images, of the same shape.

        Raises:
            KTDNError: If there is no such checkpoint, it is not a KTDN's, or the memory is too
                little.
        """
        return _apply(_load(checkpoint, device, precision, max_memory), image, strength)


# Here, as ComfyUI imports the folder before it loads any file.
install()

NODE_CLASS_MAPPINGS = {
    "KTDNLoader": KTDNLoader,
    "KTDNApply": KTDNApply,
    "KTDNDehaze": KTDNDehaze,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "KTDNLoader": "Load KTDN",
    "KTDNApply": "Apply KTDN",
    "KTDNDehaze": "Dehaze (KTDN)",
}

WRITTEN_BY = "ktdn comfyui"
"""By this the command knows a folder that it may replace."""
