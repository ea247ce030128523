"""Reading checkpoint files safely.

Nothing here ever runs code out of a file: pickles are read by torch's restricted unpickler.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ktdn_plugin.checkpoints.openmmlab_layout import from_mmengine, is_mmengine, readable
from ktdn_plugin.errors import KTDNError

_logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

WEIGHT_KEYS = ("params_ema", "params", "state_dict", "model")
"""Where training programs put the weights inside a file, in the order they are looked for."""


def read_checkpoint(path: str | Path) -> Any:
    """Reads a ``.pth`` or ``.safetensors`` file onto the CPU without running anything in it.

    Raises:
        KTDNError: If the file is not there, is truncated or no checkpoint, is an exported network,
            or would need code to be run to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise KTDNError(f"{path}: no such checkpoint file")
    if is_safetensors(path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise KTDNError(f"{path}: not a readable safetensors file ({error})") from error
    try:
        # torch warns of what it makes of a damaged file; the one error below says it all.
        # An open file, since newer torch goes by a path's suffix.
        with path.open("rb") as file, warnings.catch_warnings(), readable():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        _refuse_exported(path)
        # What torch says of a class or function that it will not import; of pickles newer than
        # those that it writes itself it does not even look into the parts.
        if "GLOBAL " in str(error) or _is_new_pickle(path):
            raise KTDNError(
                f"{path}: refused: it is no plain dictionary of tensors; what else is in it could "
                "run code when it is loaded; save the tensors alone, by torch.save or safetensors"
            ) from error
        raise KTDNError(f"{path}: not a checkpoint file") from error
    # Damaged bytes lead the unpickler to any error at all, IndexError and struct.error among them.
    except Exception as error:
        _refuse_exported(path)
        raise KTDNError(
            f"{path}: truncated or damaged checkpoint ({path.stat().st_size} bytes); copy or "
            "download it again"
        ) from error


def _refuse_exported(path: Path) -> None:
    """Says of a network in a form to run, which is no checkpoint, what it is."""
    kind = _exported_as(path)
    if kind is not None:
        raise KTDNError(
            f"{path}: an exported network ({kind}), which runs without this "
            "package (README, Export); give the checkpoint that it was made from"
        )


def _exported_as(path: Path) -> str | None:
    # Of a damaged archive zipfile says anything at all.
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] or name for name in archive.namelist()}
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "torch.export, for torch.export.load"
        if "constants.pkl" in names:
            return "TorchScript, for torch.jit.load"
        return None
    with path.open("rb") as file:
        start = file.read(3)
    # ONNX is a protocol buffer: its version as a small number, and the next field's tag, which is
    # the producer's name or its version, the domain, the graph, or the operator sets.
    if len(start) == 3 and start[0] == 0x08 and start[1] < 0x20 and start[2] in b"\x12\x1a\x22:B":
        return "ONNX, for onnxruntime"
    return None


def _is_new_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"\x80\x03", b"\x80\x04", b"\x80\x05")


def is_safetensors(path: str | Path) -> bool:
    """Tells whether a file is to be read as safetensors: by its content, else by its name."""
    path = Path(path)
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(9)
        # The length of a JSON header, and its first letter; torch's files are archives.
        if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
            return True
        if start.startswith(b"PK\x03\x04"):
            return False
    return path.suffix == ".safetensors"


def read_header(path: str | Path) -> dict[str, str]:
    """Reads the texts in a safetensors file's header, and no tensors.

    Raises:
        KTDNError: If it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise KTDNError(f"{path}: not a readable safetensors file ({error})") from error


def read_state_dict(path: str | Path, param_key: str | None = None) -> StateDict:
    """Reads one network's weights out of a checkpoint file.

    Args:
        path: A file as BasicSR (``params``, ``params_ema``), timm, mmengine (``state_dict``) or
            the KTDN authors (``model``) write it, or a bare state dict.
        param_key: Where in the file the weights are. Where it has none of that name, or none is
            given, they are taken from the first of :data:`WEIGHT_KEYS` that it has. Of mmengine's
            files ``params`` are the weights that were trained, anything else their average.

    Returns:
        Name to tensor, without the ``module.`` that data-parallel wrappers add, nor the prefix of
        the mmengine model that trained the network.

    Raises:
        KTDNError: If the file cannot be read, lacks a ``param_key`` that is not one of these
            usual ones, or holds no tensors.
    """
    return select_weights(read_checkpoint(path), path, param_key)


def select_weights(content: Any, path: str | Path, param_key: str | None = None) -> StateDict:
    """Finds one network's weights in the content of a checkpoint file.

    Args:
        content: What :func:`read_checkpoint` gave.
        path: The file, for messages.
        param_key: As for :func:`read_state_dict`.

    Returns:
        As :func:`read_state_dict`.

    Raises:
        KTDNError: As :func:`read_state_dict`.
    """
    if not isinstance(content, Mapping):
        raise KTDNError(f"{path}: holds a {type(content).__name__}, not a network's weights")
    if param_key is not None and param_key not in content and param_key not in WEIGHT_KEYS:
        raise KTDNError(f"{path}: has no '{param_key}', only {', '.join(map(str, content))[:200]}")
    weights: Any
    if is_mmengine(content):
        weights = from_mmengine(content, averaged=param_key != "params")
    else:
        candidates = (param_key, *WEIGHT_KEYS) if param_key else WEIGHT_KEYS
        key = next((key for key in candidates if key in content), None)
        weights = content if key is None else content[key]
        if param_key is not None and key != param_key:
            taken = "the whole file" if key is None else f"'{key}'"
            _logger.info("%s: has no '%s', %s is taken", path, param_key, taken)
    if not isinstance(weights, Mapping) or not weights:
        raise KTDNError(f"{path}: holds no network's weights")
    if not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise KTDNError(
            f"{path}: holds no network's weights (it has {', '.join(map(str, content))[:200]})"
        )
    return {key.removeprefix("module."): value for key, value in weights.items()}


def compare_keys(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Says in one line how two sets of weights differ.

    Args:
        wanted: The network's.
        found: The file's.

    Returns:
        An empty string where names and shapes are the same.
    """
    missing = [key for key in wanted if key not in found]
    unknown = [key for key in found if key not in wanted]
    reshaped = [key for key in wanted if key in found and wanted[key].shape != found[key].shape]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(wanted)} entries are missing (such as {missing[0]})")
    if unknown:
        parts.append(f"{len(unknown)} entries are unknown (such as {unknown[0]})")
    if reshaped:
        key = reshaped[0]
        parts.append(
            f"{len(reshaped)} entries have another shape (such as {key}: "
            f"{tuple(found[key].shape)} instead of {tuple(wanted[key].shape)})"
        )
    return ", ".join(parts)
