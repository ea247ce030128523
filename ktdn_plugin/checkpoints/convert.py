"""A checkpoint from one layout to another: bit for bit, with all that it says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ktdn_plugin.archs import KTDN
from ktdn_plugin.checkpoints.checkpoint import PARAM_KEYS, Checkpoint
from ktdn_plugin.checkpoints.layouts import (
    LAYOUTS,
    Sets,
    check_suffix,
    write_layout,
)
from ktdn_plugin.checkpoints.metadata import (
    AVERAGED,
    FOUND,
    UNUSED,
    Metadata,
)
from ktdn_plugin.checkpoints.networks import (
    complete_options,
    empty_network,
    options_of,
    warn_if_ambiguous,
    without_settings,
)
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.storage.state_dicts import StateDict, compare_keys

PUBLISHED = {"encoder": "res2net101d", "reduction": 8, "head": "tanh", "widths": None}
"""The one network that the published layout has names for."""

SUFFIXES = {".safetensors": "safetensors", ".pth": "ktdn", ".pt": "ktdn"}


class Converted(NamedTuple):
    """What was made of what."""

    source: str  # layout
    target: str  # layout
    encoder: str
    weights: tuple[str, ...]  # of PARAM_KEYS, those that were taken


def convert(
    source: str | Path,
    target: str | Path,
    to: str | None = None,
    *,
    param_key: str | None = None,
    encoder: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> Converted:
    """Writes a KTDN's checkpoint in another layout.

    The source's layout is detected. The numbers stay as they are, bit for bit (but for
    ``half``), and so does the metadata; the network's own is completed, so that the new file needs
    no ``encoder``, and says which of it the source did not tell.

    Args:
        source: A checkpoint in any layout.
        target: The file to write.
        to: ``ktdn`` (ours, which is BasicSR's), ``published``, ``safetensors`` or ``mmengine``; by
            default ``safetensors`` or ``ktdn``, as the target's suffix says.
        param_key: ``params``, the weights that were trained, or ``params_ema``, their average. By
            default both where the layout has room for both, else the average where there is one.
        encoder: Name of a timm backbone, where the source does not name it.
        half: Write convolutions in float16, which halves the file; biases and batch statistics,
            few and of any size, stay. Networks compute in float32 again once they are loaded.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        What was made of what.

    Raises:
        KTDNError: If the source is not a KTDN's checkpoint, the layout cannot hold it, or the
            target cannot be written; nothing has been written then.
    """
    source, target = Path(source), Path(target)
    layout = _target_layout(target, to)
    check_suffix(target, layout)
    if target.exists():
        if target.is_dir():
            raise KTDNError(f"{target}: is a folder; give the file to write")
        if source.exists() and target.samefile(source):
            raise KTDNError(f"{target}: is the source itself; choose another file")
        if not overwrite:
            raise KTDNError(f"{target}: already exists; choose another, or give --overwrite")
    checkpoint = Checkpoint.read(source)
    metadata = dict(checkpoint.metadata)
    given, guesses = options_of(checkpoint, encoder)
    sets, averaged = _weights(checkpoint, param_key)
    completed = complete_options(next(iter(sets.values())), given, source, guesses)
    warn_if_ambiguous(completed, source)
    options = completed.options
    network = empty_network(options, source)
    sets = {key: _in_order(network, weights, source) for key, weights in sets.items()}
    if half:
        sets = {key: _halved(weights, source) for key, weights in sets.items()}
    if layout in ("published", "safetensors") and len(sets) > 1:
        sets, averaged = {"params_ema": sets["params_ema"]}, True
    if layout == "published":
        _check_published(options, source)
    origin = checkpoint.layout
    if origin == "published" and (unused := checkpoint.unused_entries()):
        metadata[UNUSED] = unused
    metadata["network"] = {"type": KTDN.__name__, **options}
    metadata.pop(FOUND, None)
    if completed.found:
        metadata[FOUND] = completed.found
    if averaged is not None:
        metadata[AVERAGED] = averaged
    write_layout(target, layout, sets, metadata)
    return Converted(origin, layout, options["encoder"], tuple(sets))


def _target_layout(target: Path, to: str | None) -> str:
    if to is None:
        if target.suffix not in SUFFIXES:
            raise KTDNError(
                f"{target}: its suffix, '{target.suffix}', does not tell the layout; give "
                f"--to {', '.join(LAYOUTS[:-1])} or {LAYOUTS[-1]}"
            )
        return SUFFIXES[target.suffix]
    if to not in LAYOUTS:
        raise KTDNError(
            f"--to: '{to}' is not one of {', '.join(LAYOUTS)}{did_you_mean(to, LAYOUTS)}"
        )
    return to


def _weights(checkpoint: Checkpoint, param_key: str | None) -> tuple[Sets, bool | None]:
    """Returns the sets of weights to write, and whether a single one is the average, if known."""
    if param_key is not None and param_key not in PARAM_KEYS:
        raise KTDNError(
            f"--param-key: '{param_key}' is not one of {', '.join(PARAM_KEYS)}"
            f"{did_you_mean(param_key, PARAM_KEYS)}"
        )
    # Says what is wrong with the file, where something is.
    one = checkpoint.select_ktdn(param_key)
    keys = checkpoint.param_keys
    if param_key is None:
        sets = {key: checkpoint.select_ktdn(key) for key in keys}
        return sets, (True if keys == ("params_ema",) else None)
    if param_key not in keys:
        raise KTDNError(f"{checkpoint.path}: has no '{param_key}', only {', '.join(keys)}")
    # Alone it is what the file is of, and what BasicSR looks for.
    known = len(keys) > 1 or param_key == "params_ema"
    return {"params": one}, (param_key == "params_ema" if known else None)


def _in_order(network: KTDN, weights: StateDict, path: Path) -> StateDict:
    """Puts weights into the network's order, each in memory of its own."""
    wanted = network.state_dict()
    problem = compare_keys(wanted, without_settings(weights))
    if problem:
        raise KTDNError(
            f"{path}: its weights do not fit KTDN with encoder '{network.encoder.name}': {problem}"
        )
    return {key: weights[key].clone(memory_format=torch.contiguous_format) for key in wanted}


def _halved(weights: StateDict, path: Path) -> StateDict:
    """Rounds kernels to float16.

    Raises:
        KTDNError: If a number is too large for it.
    """
    halved = dict(weights)
    for key, value in weights.items():
        if value.is_floating_point() and value.ndim > 1:
            halved[key] = value.half()
            if not halved[key].isfinite().all():
                raise KTDNError(f"{path}: {key} has values that float16 cannot hold; remove --half")
    return halved


def _check_published(options: Metadata, path: Path) -> None:
    defaults = complete_options({}, PUBLISHED, path).options
    wrong = [
        f"{key} {options[key]}, not {value}"
        for key, value in defaults.items()
        if (options[key].split(".")[0] if key == "encoder" else options[key]) != value
    ]
    if wrong:
        raise KTDNError(
            f"{path}: the published network differs, and its layout cannot store this "
            f"({'; '.join(wrong)}); convert to ktdn, safetensors or mmengine"
        )
