"""What our checkpoints tell of themselves beside the weights: plain values, in any layout.

``.pth`` files have them under :data:`KEY` beside the weights, mmengine's in their ``meta``,
safetensors as JSON in the header. They hold no times and no paths: a resumed run writes what one
that was never interrupted does.

``network``
    ``type``, and of a KTDN ``encoder``, ``mean``, ``std``, ``reduction``, ``head`` and ``widths``
    (null where they follow from the encoder). Older files lack the last two: weights tell them.
``found``
    Of files that were converted: which of the network's values the source did not tell. They were
    found from the weights, or are the defaults.
``ktdn_plugin``, ``toolbox``
    What it was trained with: our version, and such as ``BasicSR 1.4.2``.
``run``
    ``name``, ``iteration``, ``total``, ``stage`` (``teacher`` or ``student``), and ``options``: the
    SHA-256 of the options file. mmengine's files lack the last.
``data``
    ``train`` and ``val``: lists of ``name``, ``split``, ``fingerprint`` and ``images``.
``metrics``
    ``last``: validation set to ``iteration`` and ``figures``; ``best``: validation set to metric to
    ``iteration`` and ``value``.
``averaged``
    Of files with one set of weights, where it is known: whether it is the average.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ktdn_plugin import __version__
from ktdn_plugin.archs import KTDN
from ktdn_plugin.archs.ktdn_arch import HEADS
from ktdn_plugin.checkpoints.identify import find_reduction, find_widths
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.model_zoo.weights import file_of
from ktdn_plugin.storage.mmengine_keys import is_mmengine
from ktdn_plugin.storage.safe_loading import is_safetensors, read_header

KEY = "ktdn"
"""What the metadata is called inside a file."""

AVERAGED = "averaged"
"""In metadata: whether a single set of weights is the average of those that were trained."""

FOUND = "found"
"""In metadata: names of the network's values that are no file's word."""

UNUSED = "published_unused"
"""In metadata: what a published file has in the entries that the published network never uses."""

LARGEST = 2**20
"""In characters of JSON, or in values; ours has less than a hundredth of it."""

STAGES = ("teacher", "student")

Metadata = dict[str, Any]


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Returns the metadata's ``network``: what is needed to build it again.

    Args:
        network: The network itself, without a wrapper.

    Returns:
        ``type`` alone for a network that is not KTDN.
    """
    if not isinstance(network, KTDN):
        return {"type": type(network).__name__}
    weights = network.state_dict()
    return {
        "type": KTDN.__name__,
        "encoder": network.encoder.name,
        "mean": settings_of(network.mean),
        "std": settings_of(network.std),
        "reduction": find_reduction(weights),
        "head": network.head,
        "widths": find_widths(weights),
    }


def settings_of(buffer: Tensor) -> list[float]:
    """Returns a network's ``mean`` or ``std`` as plain numbers."""
    # The shortest number that gives this float32: 0.64, not 0.6399999856948853.
    return [float(str(one)) for one in buffer.detach().float().cpu().flatten().numpy()]


def describe_training(network: nn.Module, toolbox: str, **parts: Any) -> Metadata:
    """Puts the metadata of a training's checkpoint together.

    Args:
        network: The network, without a wrapper.
        toolbox: Name and version.
        **parts: ``run``, ``data`` and ``metrics``, as far as they are known.

    Returns:
        Plain values alone.
    """
    described = {
        "network": describe_network(network),
        "ktdn_plugin": __version__,
        "toolbox": toolbox,
        **parts,
    }
    plain: Metadata = _plain(described)
    return plain


def _plain(value: Any) -> Any:
    """Makes numpy's numbers, and dictionaries and tuples of any kind, what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def find_metadata(content: Any, path: str | Path) -> Metadata:
    """Returns the metadata of a checkpoint.

    Args:
        content: What the file holds.
        path: The file, or its model's name; its header has it where it is a safetensors file.

    Returns:
        Plain values; empty where the file carries none.

    Raises:
        KTDNError: If there is something of that name that is not metadata.
    """
    path = file_of(path)
    if is_safetensors(path):
        text = read_header(path).get(KEY)
        found = None if text is None else _parse(text, path)
    else:
        holder = content.get("meta") if is_mmengine(content) else content
        found = holder.get(KEY) if isinstance(holder, Mapping) else None
    return {} if found is None else _check(found, path)


def metadata_from_json(text: str, source: str) -> Metadata:
    """Returns metadata that :func:`to_json` has written.

    Raises:
        KTDNError: If it is damaged, or something else; the message begins with ``source``.
    """
    return _check(_parse(text, source), source)


def _parse(text: str, path: str | Path) -> Any:
    if len(text) > LARGEST:
        raise KTDNError(f"{path}: its metadata, '{KEY}', is too long ({len(text)} characters)")
    try:
        return _from_json(text)
    except (ValueError, RecursionError) as error:
        raise KTDNError(f"{path}: its metadata, '{KEY}', is damaged ({error})") from error


def _check(found: Any, path: str | Path) -> Metadata:
    if not isinstance(found, Mapping) or not _is_plain(found, [LARGEST]):
        raise KTDNError(
            f"{path}: what it has as '{KEY}' is not metadata: a dictionary of plain values"
        )
    return dict(found)


def to_json(metadata: Metadata) -> str:
    """Writes metadata as JSON, for a safetensors file's header."""
    return json.dumps(without_infinity(metadata), allow_nan=False)


def without_infinity(value: Any) -> Any:
    """Makes numbers that JSON has no name for, such as the PSNR of equal images, words."""
    if isinstance(value, Mapping):
        return {key: without_infinity(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_infinity(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(text: str) -> Any:
    found = json.loads(text)
    if isinstance(found, dict):
        # Elsewhere such a word is a name.
        for key in ("metrics", UNUSED):
            if key in found:
                found[key] = _with_infinity(found[key])
    return found


def _with_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_infinity(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_infinity(one) for one in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def _is_plain(value: Any, left: list[int], depth: int = 0) -> bool:
    """Finds whether metadata is made of plain values, no more of them than are left."""
    left[0] -= 1 + (len(value) if isinstance(value, str) else 0)
    if depth > 8 or left[0] < 0:
        return False
    if isinstance(value, Mapping):
        return all(
            isinstance(key, str) and _is_plain(key, left) and _is_plain(one, left, depth + 1)
            for key, one in value.items()
        )
    if isinstance(value, list):
        return all(_is_plain(one, left, depth + 1) for one in value)
    return value is None or type(value) in (str, int, float, bool)


def network_of(metadata: Metadata, path: str | Path) -> dict[str, Any]:
    """Returns the arguments that the network has to be built with, as far as metadata has them.

    Args:
        metadata: What :func:`find_metadata` gave.
        path: The file, for messages.

    Returns:
        Any of ``encoder``, ``mean``, ``std``, ``reduction``, ``head`` and ``widths``, for
        :class:`~ktdn_plugin.archs.KTDN`.

    Raises:
        KTDNError: If it is another network's, or one of them is not such a value.
    """
    network = metadata.get("network", {})
    if not isinstance(network, Mapping):
        raise KTDNError(f"{path}: its metadata's 'network' is not a dictionary")
    kind = network.get("type", KTDN.__name__)
    if kind != KTDN.__name__:
        raise KTDNError(f"{path}: a checkpoint of a different network than KTDN: {str(kind)[:100]}")
    known = {key: network[key] for key in _IS_VALID if key in network}
    for key, value in known.items():
        if not _IS_VALID[key](value):
            raise KTDNError(
                f"{path}: its metadata says {key}: {repr(value)[:100]}, which is impossible"
            )
    return known


def found_of(metadata: Metadata) -> list[str]:
    """Names the network's values that were found when the file was written, and no file told."""
    found = metadata.get(FOUND)
    return [key for key in _IS_VALID if key in found] if isinstance(found, list) else []


def stage_of(metadata: Metadata) -> str:
    """Returns the stage that trained it, ``student`` where the metadata does not say."""
    run = metadata.get("run")
    stage = run.get("stage") if isinstance(run, Mapping) else None
    return stage if stage in STAGES else "student"


def iteration_of(metadata: Metadata) -> int:
    """Returns the iteration that it was saved after, 0 where the metadata does not say."""
    run = metadata.get("run")
    iteration = run.get("iteration") if isinstance(run, Mapping) else None
    return iteration if type(iteration) is int else 0


def _are_three(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(one) in (int, float) and abs(one) < 1e30 for one in value)
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


_IS_VALID: dict[str, Callable[[Any], bool]] = {
    "encoder": lambda value: isinstance(value, str) and 0 < len(value) <= 200,
    "mean": _are_three,
    "std": lambda value: _are_three(value) and min(value) > 0,
    "reduction": _is_count,
    "head": lambda value: isinstance(value, str) and value in HEADS,
    "widths": lambda value: (
        value is None
        or (isinstance(value, list) and len(value) == 3 and all(map(_is_count, value)))
    ),
}
