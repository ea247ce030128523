"""Loading checkpoints into networks that are there, all of one or nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.checkpoints.checkpoint import Checkpoint
from ktdn_plugin.checkpoints.identify import (
    find_head,
    find_widths,
    fits_reduction,
    fits_widths,
)
from ktdn_plugin.checkpoints.metadata import settings_of
from ktdn_plugin.checkpoints.networks import SETTINGS, read_settings
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.state_dicts import StateDict, compare_keys, without_prefix


def load_weights(
    network: nn.Module, checkpoint: str | Path | Checkpoint, param_key: str | None = None
) -> None:
    """Loads a checkpoint into a network, all of it or nothing.

    The published KTDN layout is recognised and translated.

    Args:
        network: The network.
        checkpoint: The checkpoint, or its file or name: see :meth:`Checkpoint.read`.
        param_key: Which of the file's weights: see :meth:`Checkpoint.select`.

    Raises:
        KTDNError: If the file cannot be read, holds another network's weights, or says that a
            KTDN's mean, std or encoder is another one.

    Example:
        >>> imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        >>> network = create_model("ktdn_small", **imagenet)
        >>> load_weights(network, "ktdn_small")
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint.read(checkpoint)
    network.load_state_dict(fit_weights(network, checkpoint, param_key))


def fit_weights(
    network: nn.Module, checkpoint: Checkpoint, param_key: str | None = None
) -> StateDict:
    """Returns a checkpoint's weights as a network's state dict, if they are this network's.

    Args:
        network: The network; it may be on torch's ``meta`` device.
        checkpoint: The checkpoint.
        param_key: As for :meth:`Checkpoint.select`.

    Raises:
        KTDNError: As :func:`load_weights`.
    """
    own = network.state_dict()
    weights = without_prefix(checkpoint.select(param_key), own)
    # A KTDN's mean and std may be among the weights of a file, and of the network.
    told = set(SETTINGS) - own.keys() if isinstance(network, KTDN) else set()
    wanted = {key: value for key, value in weights.items() if key not in told}
    if problem := _find_difference(network, wanted):
        encoder = f" with encoder '{network.encoder.name}'" if isinstance(network, KTDN) else ""
        raise KTDNError(
            f"{checkpoint.path}: a checkpoint of a different network than this "
            f"{type(network).__name__}{encoder}: {problem}"
        )
    check_settings(network, weights, checkpoint)
    return wanted


def _find_difference(network: nn.Module, weights: StateDict) -> str:
    """Returns one line that says why weights do not fit a network; empty where they fit.

    Of a KTDN, head and widths are said by name: the shapes that differ for it are many.
    """
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


def check_settings(network: nn.Module, weights: StateDict, checkpoint: Checkpoint) -> None:
    """Checks that a KTDN is the one that a checkpoint says it is of.

    Names and shapes of weights tell neither mean and std nor how an encoder halves images: a
    network that differs in these takes the weights, and its output is wrong. What a file does not
    say, or has found itself when it was converted, is not looked at; nor are other networks.

    Args:
        network: The network; one on torch's ``meta`` device has no mean and std to look at.
        weights: The checkpoint's, in the network's own layout, which they fit; mean and std may be
            among them, and yield to what the metadata says.
        checkpoint: The checkpoint.

    Raises:
        KTDNError: If encoder, mean, std, reduction, head or widths are other ones.
    """
    if not isinstance(network, KTDN):
        return
    path, wrong = checkpoint.path, []
    own: Any
    for key, said in {**read_settings(weights, path), **checkpoint.network_options}.items():
        if key in checkpoint.guesses:
            continue
        if key == "encoder":
            own = network.encoder.name
            # The tag names published weights, not another network.
            agrees = own.split(".")[0] == said.split(".")[0]
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
            f"{path}: of a different network than this {type(network).__name__}: it says "
            f"{'; '.join(wrong)}; build the network with the file's settings, or use "
            "ktdn_plugin.load_network(path)"
        )


def load_published(network: nn.Module, path: str | Path) -> None:
    """Loads the authors' ``KTDN.pth`` into a network.

    Args:
        network: A :class:`~ktdn_plugin.archs.KTDN` with the encoder ``res2net101d``.
        path: The file.

    Raises:
        KTDNError: If the file cannot be read, or is not in the published layout.

    Example:
        >>> load_published(KTDN("res2net101d"), "KTDN.pth")  # doctest: +SKIP
    """
    checkpoint = Checkpoint.read(path)
    if checkpoint.weights and checkpoint.layout != "published":
        raise KTDNError(f"{path}: not in the published KTDN layout (it has no 'mid_conv' entries)")
    load_weights(network, checkpoint)
