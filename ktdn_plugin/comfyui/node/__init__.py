"""KTDN for ComfyUI: a node that dehazes, and KTDN's files in ComfyUI's own upscale nodes.

Copied into ComfyUI's folder ``custom_nodes`` by ``ktdn comfyui``; ComfyUI imports it from there.
The work is done by the package ktdn_plugin, which has to be installed in ComfyUI's own Python.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from ktdn_plugin import load_network
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

    from ktdn_plugin import KTDN

FOLDERS = ("ktdn", "upscale_models")
"""Folders of ``models`` in which checkpoints are looked for; the first one is ours."""

SUFFIXES = (".pth", ".safetensors")
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


@functools.lru_cache(maxsize=1)
def _network(path: Path, version: tuple[int, int]) -> KTDN:
    """Reads a checkpoint, unless it is the one that was read last."""
    return load_network(path)


class KTDNDehaze:
    """The node "Dehaze (KTDN)": whole images, of any size, within the available memory."""

    CATEGORY = "image/restoration"
    DESCRIPTION = "Removes haze with a trained KTDN. Large images are processed in exact stripes."
    FUNCTION = "dehaze"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        """Returns what the node takes, as ComfyUI asks."""
        memory = {
            "default": 0.0,
            "min": 0.0,
            "max": 1024.0,
            "step": 0.01,
            "tooltip": "memory limit for ComfyUI in GB: on a GPU for its tensors, "
            "on a CPU for the whole process; 0: all that is free",
        }
        strength = {
            "default": 1.0,
            "min": 0.0,
            "max": STRONGEST,
            "step": 0.05,
            "tooltip": "how much of the haze to remove: 0.7 leaves some, 1 is the full change",
        }
        text = "one shipped with ktdn-plugin, or one in models/ktdn or models/upscale_models"
        return {
            "required": {
                "image": ("IMAGE",),
                "checkpoint": ([*SHIPPED, *sorted(_checkpoints())], {"tooltip": text}),
            },
            "optional": {
                "device": (["auto", "cpu", "cuda", "mps"], {"tooltip": "auto: ComfyUI's own"}),
                "precision": (list(PRECISIONS), {}),
                "max_memory": ("FLOAT", memory),
                # Last, as ComfyUI's saved workflows list values by position.
                "strength": ("FLOAT", strength),
            },
        }

    @classmethod
    def IS_CHANGED(cls, checkpoint: str, **inputs: Any) -> tuple[int, int] | None:
        """Has ComfyUI run the node again where the file has changed under its name."""
        if checkpoint in SHIPPED:
            return None
        path = _checkpoints().get(checkpoint)
        return None if path is None else _version(path)

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
        import torch
        from comfy import model_management, utils

        path = resolve_checkpoint(checkpoint) if checkpoint in SHIPPED else None
        path = path or _checkpoints().get(checkpoint)
        if path is None:
            raise KTDNError(
                f"{checkpoint}: no such checkpoint in models/{' or models/'.join(FOLDERS)}; put it "
                "there and reload the page"
            )
        if image.ndim != 4 or image.shape[-1] not in (3, 4):
            raise KTDNError(f"IMAGE: expected (n, h, w, 3), got {tuple(image.shape)}")
        place = model_management.get_torch_device() if device == "auto" else torch.device(device)
        limit = round(max_memory * GB) or None
        # Other networks wait outside of the device; ComfyUI brings them back when they are due.
        model_management.free_memory(limit or ROOM, place)
        # ComfyUI runs nodes in inference mode, in which no network can be looked into.
        with torch.inference_mode(False):
            network = _network(path, _version(path))
            try:
                dehazer = Dehazer(
                    network,
                    device=place,
                    precision=precision,
                    max_memory=limit,
                    strength=strength,
                )
            except KTDNError as error:
                raise KTDNError(f"{checkpoint}: {error}") from error
        progress = utils.ProgressBar(len(image))
        results = []
        for one in image:
            model_management.throw_exception_if_processing_interrupted()
            pixels = one[..., :3].movedim(-1, 0)
            result = dehazer(pixels).movedim(0, -1)
            results.append(torch.cat([result, one[..., 3:]], dim=-1))
            progress.update(1)
        return (torch.stack(results),)


# Here, as ComfyUI imports the folder before it loads any file.
install()

NODE_CLASS_MAPPINGS = {"KTDNDehaze": KTDNDehaze}
NODE_DISPLAY_NAME_MAPPINGS = {"KTDNDehaze": "Dehaze (KTDN)"}

WRITTEN_BY = "ktdn comfyui"
"""By this the command knows a folder that it may replace."""
