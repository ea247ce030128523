"""Reading checkpoint files without running anything in them, by their path or their name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.storage.safe_loading import load_tensors
from ktdn_plugin.storage.state_dicts import StateDict, select_weights


def read_checkpoint(path: str | Path) -> Any:
    """Reads a ``.pth`` or ``.safetensors`` file onto the CPU without running anything in it.

    Args:
        path: The file; or the name of a network that comes with the package, see
            :func:`~ktdn_plugin.model_zoo.weights.resolve_checkpoint`.

    Raises:
        KTDNError: If the file is not there, is truncated or no checkpoint, is an exported network,
            or would need code to be run to be read.
    """
    return load_tensors(resolve_checkpoint(path))


def read_state_dict(path: str | Path, param_key: str | None = None) -> StateDict:
    """Reads one network's weights out of a checkpoint file.

    Args:
        path: A file as BasicSR (``params``, ``params_ema``), timm, mmengine (``state_dict``) or
            the KTDN authors (``model``) write it, or a bare state dict.
        param_key: Where in the file the weights are. Where it has none of that name, or none is
            given, they are taken from the first that it has of
            :data:`~ktdn_plugin.storage.state_dicts.WEIGHT_KEYS`. Of mmengine's files ``params`` are
            the weights that were trained, anything else their average.

    Returns:
        Name to tensor, without the ``module.`` that data-parallel wrappers add, the ``_orig_mod.``
        of ``torch.compile``, and the prefix of the model that trained the network.

    Raises:
        KTDNError: If the file cannot be read, lacks a ``param_key`` that is not one of these
            usual ones, or holds no tensors.
    """
    return select_weights(read_checkpoint(path), path, param_key)
