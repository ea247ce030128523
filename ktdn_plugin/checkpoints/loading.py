"""Loading checkpoint files into networks."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ktdn_plugin.checkpoints.reading import read_checkpoint, read_state_dict
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.published_keys import from_published, is_published
from ktdn_plugin.storage.state_dicts import (
    StateDict,
    compare_keys,
    select_weights,
    without_prefix,
)


def load_weights(network: nn.Module, path: str | Path, param_key: str | None = None) -> None:
    """Loads a checkpoint into a network, all of it or nothing.

    The published KTDN layout is recognised and translated.

    Args:
        network: The network.
        path: The checkpoint, see :func:`read_state_dict`.
        param_key: See :func:`read_state_dict`.

    Raises:
        KTDNError: If the file cannot be read, holds another network's weights, or says that a
            KTDN's mean, std or encoder is another one: see :func:`check_settings`.
    """
    load_content(network, read_checkpoint(path), path, param_key)


def load_content(
    network: nn.Module, content: Any, path: str | Path, param_key: str | None = None
) -> None:
    """Loads what has been read of a checkpoint into a network, all of it or nothing.

    Args:
        network: The network.
        content: What :func:`read_checkpoint` gave.
        path: The file, for messages, and for the header that a safetensors file has.
        param_key: See :func:`read_state_dict`.

    Raises:
        KTDNError: As :func:`load_weights`.
    """
    weights = select_weights(content, path, param_key)
    if is_published(weights):
        weights = from_published(weights)
    weights = without_prefix(weights, network.state_dict())
    told = settings_in(weights, network)
    weights = {key: value for key, value in weights.items() if key not in told}
    problem = find_difference(network, weights)
    if problem:
        raise KTDNError(
            f"{path}: the checkpoint of another network than this {type(network).__name__}: "
            f"{problem}"
        )
    check_settings(network, {**weights, **told}, content, path)
    network.load_state_dict(weights)


def find_difference(network: nn.Module, weights: StateDict) -> str:
    """Returns one line that says why weights do not fit a network.

    Args:
        network: The network. Of a KTDN, head and widths are said by name: the shapes that differ
            for it are many.
        weights: The file's, in the network's own layout.

    Returns:
        An empty string where they fit.
    """
    from ktdn_plugin.archs import KTDN
    from ktdn_plugin.checkpoints.identify import find_head, find_widths

    own = network.state_dict()
    problem = compare_keys(own, weights)
    if problem and isinstance(network, KTDN):
        with contextlib.suppress(KTDNError):
            for key, find in (("head", find_head), ("widths", find_widths)):
                wanted, found = find(own), find(weights)
                if found != wanted:
                    return (
                        f"the file's has {key}: {_written(found)}, this one {key}: "
                        f"{_written(wanted)}; set {key}: {_written(found)} for the network, or "
                        "name another checkpoint"
                    )
    return problem


def _written(value: Any) -> str:
    return "null" if value is None else str(value)


def settings_in(weights: StateDict, network: nn.Module) -> StateDict:
    """Returns a file's own mean and std, where a KTDN that takes none has them among weights."""
    from ktdn_plugin.archs import KTDN
    from ktdn_plugin.checkpoints.networks import SETTINGS

    if not isinstance(network, KTDN):
        return {}
    own = network.state_dict()
    return {key: weights[key] for key in SETTINGS if key in weights and key not in own}


def check_settings(network: nn.Module, weights: StateDict, content: Any, path: str | Path) -> None:
    """Checks that a KTDN is the one that a checkpoint says it is of.

    Names and shapes of weights tell neither mean and std nor how an encoder halves images: a
    network that differs in these takes the weights, and its output is wrong. What a file does not
    say, or has found itself when it was converted, is not looked at; nor are other networks.

    Args:
        network: The network; one on torch's ``meta`` device has no mean and std to look at.
        weights: The file's, in the network's own layout, which they fit; mean and std may be
            among them, and yield to what the metadata says.
        content: What :func:`read_checkpoint` gave.
        path: The file.

    Raises:
        KTDNError: If encoder, mean, std, reduction, head or widths are other ones.
    """
    from ktdn_plugin.archs import KTDN
    from ktdn_plugin.checkpoints.identify import are_the_same, fits_reduction, fits_widths
    from ktdn_plugin.checkpoints.metadata import (
        find_metadata,
        found_of,
        network_of,
        settings_of,
    )
    from ktdn_plugin.checkpoints.networks import settings_told

    if not isinstance(network, KTDN):
        return
    metadata = find_metadata(content, path)
    guesses = found_of(metadata)
    wrong = []
    own: Any
    for key, said in {**settings_told(weights, path), **network_of(metadata, path)}.items():
        if key in guesses:
            continue
        if key == "encoder":
            own = network.encoder.name
            agrees = are_the_same(own, said, weights)
        elif key == "reduction":
            own = "another one"
            agrees = fits_reduction(weights, said)
        elif key == "head":
            own = network.head
            agrees = own == said
        elif key == "widths":
            own = "other ones"
            agrees = fits_widths(weights, said)
        else:
            buffer = network.get_buffer(key).flatten()
            if buffer.is_meta:
                continue
            own = settings_of(buffer)
            agrees = torch.equal(torch.tensor(said).to(buffer), buffer)
        if not agrees:
            wrong.append(f"{key} {said}, and this network has {own}")
    if wrong:
        raise KTDNError(
            f"{path}: of another network than this {type(network).__name__}: it says "
            f"{'; '.join(wrong)}; build the network with what the file says, or by "
            "ktdn_plugin.load_network(path)"
        )


def load_published(network: nn.Module, path: str | Path) -> None:
    """Loads the authors' ``KTDN.pth`` into a network.

    Args:
        network: A :class:`~ktdn_plugin.archs.KTDN` with the encoder ``res2net101d``.
        path: The file.

    Raises:
        KTDNError: If the file cannot be read, or is not in the published layout.
    """
    weights = read_state_dict(path)
    if not is_published(weights):
        raise KTDNError(f"{path}: not in the published KTDN layout (it has no 'mid_conv' entries)")
    load_weights(network, path)
