"""The network that a checkpoint is of, built from the file alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.archs.detection import check_is_ktdn, find_encoder, find_reduction
from ktdn_plugin.checkpoint_metadata import find_metadata, network_of
from ktdn_plugin.checkpoints import StateDict, compare_keys, read_checkpoint, select_weights
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.published_layout import from_published, is_published

SETTINGS = ("mean", "std")
"""The buffers of a KTDN that are in no checkpoint."""


def load_network(
    path: str | Path, encoder: str | None = None, param_key: str | None = None
) -> KTDN:
    """Builds the network that a checkpoint is of, with its weights.

    What the file says of itself (its metadata) comes first; the rest is found from the weights.
    Nothing in the file is run, and nothing is downloaded.

    Args:
        path: A ``.pth`` or ``.safetensors`` file: ours, BasicSR's (``params``, ``params_ema``), the
            published layout, mmengine's, or a bare state dict.
        encoder: Name of a timm backbone, where the file does not name it and several would fit.
        param_key: Where in the file the weights are, see
            :func:`~ktdn_plugin.checkpoints.read_state_dict`; without it the averaged ones where
            there are any.

    Returns:
        The network on the CPU, float32, in eval mode.

    Raises:
        KTDNError: If the file cannot be read, or is no KTDN's.
    """
    content = read_checkpoint(path)
    options = network_of(find_metadata(content, path), path)
    if encoder is not None:
        options["encoder"] = encoder
    return build_network(ktdn_weights(content, path, param_key), options, path)


def ktdn_weights(content: Any, path: str | Path, param_key: str | None = None) -> StateDict:
    """Takes a KTDN's weights out of a checkpoint.

    Args:
        content: What :func:`~ktdn_plugin.checkpoints.read_checkpoint` gave.
        path: The file, for messages.
        param_key: See :func:`~ktdn_plugin.checkpoints.read_state_dict`.

    Returns:
        State dict in our layout.

    Raises:
        KTDNError: If it holds something else; it is named.
    """
    if is_training_state(content):
        raise KTDNError(f"{path}: {describe_state(content)}")
    weights = select_weights(content, path, param_key)
    if is_published(weights):
        weights = from_published(weights)
    try:
        check_is_ktdn(weights)
    except KTDNError as error:
        raise KTDNError(f"{path}: {error}") from error
    return weights


def is_training_state(content: Any) -> bool:
    """Tells whether a file's content is what BasicSR resumes a training from."""
    return isinstance(content, Mapping) and {"iter", "epoch", "optimizers"} <= content.keys()


def describe_state(content: Mapping[str, Any]) -> str:
    """Says what a training state is, and where its network is."""
    iteration = content["iter"]
    return (
        f"a training state of iteration {iteration}, to resume from, and no network; that is "
        f"models/net_g_{iteration}.pth of the same run"
    )


def complete_options(
    weights: Mapping[str, Tensor], options: Mapping[str, Any], path: str | Path
) -> dict[str, Any]:
    """Completes what is known of a network by what its weights tell, and by the defaults.

    Args:
        weights: A KTDN's state dict in our layout.
        options: Any of ``encoder``, ``mean``, ``std`` and ``reduction``.
        path: The file, for messages.

    Returns:
        All four.

    Raises:
        KTDNError: If the weights do not tell.
    """
    defaults = inspect.signature(KTDN).parameters
    found: dict[str, Any] = {key: list(defaults[key].default) for key in SETTINGS}
    found |= options
    try:
        if "reduction" not in found:
            found["reduction"] = find_reduction(weights)
        if "encoder" not in found:
            found["encoder"] = find_encoder(weights)
    except KTDNError as error:
        raise KTDNError(f"{path}: {error}") from error
    return {key: found[key] for key in ("encoder", *SETTINGS, "reduction")}


def build_network(
    weights: Mapping[str, Tensor], options: Mapping[str, Any], path: str | Path
) -> KTDN:
    """Builds a KTDN with these weights; none of its own are drawn where that can be avoided.

    Args:
        weights: Its state dict in our layout.
        options: What is known of the network's arguments; the rest is found.
        path: The file, for messages.

    Returns:
        The network on the CPU, float32, in eval mode.

    Raises:
        KTDNError: If the weights do not fit.
    """
    options = complete_options(weights, options, path)
    network = empty_network(options, path)
    wanted = network.state_dict()
    problem = compare_keys(wanted, weights)
    if problem:
        raise KTDNError(
            f"{path}: its weights do not fit KTDN with encoder '{options['encoder']}': {problem}"
        )
    if _is_whole_in_state_dict(network):
        # A copy where the file's tensors are views, or of another type; else the tensor itself.
        own = {key: weights[key].to(value.dtype).contiguous() for key, value in wanted.items()}
        network.load_state_dict(own, assign=True)
        for name in SETTINGS:
            setting = torch.tensor(options[name], dtype=torch.float32).view(1, 3, 1, 1)
            network.register_buffer(name, setting, persistent=False)
    else:
        with torch.random.fork_rng(devices=[]):
            network = KTDN(**options)
        network.load_state_dict(dict(weights))
    return network.eval()


def empty_network(options: Mapping[str, Any], path: str | Path) -> KTDN:
    """Builds a KTDN on torch's ``meta`` device: names and shapes, no numbers.

    Raises:
        KTDNError: If there is none with these options.
    """
    try:
        with torch.device("meta"):
            return KTDN(**options)
    except (KTDNError, ValueError) as error:
        raise KTDNError(f"{path}: {error}") from error


def _is_whole_in_state_dict(network: nn.Module) -> bool:
    """Tells whether a network has no tensors but those of its state dict and its settings."""
    saved = network.state_dict().keys()
    if any(name not in saved for name, _ in network.named_buffers() if name not in SETTINGS):
        return False
    return not any(
        isinstance(value, Tensor) for module in network.modules() for value in vars(module).values()
    )
