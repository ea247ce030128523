"""The network that a checkpoint is of, built from the file alone."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.checkpoints.checkpoint import Checkpoint
from ktdn_plugin.checkpoints.identify import (
    find_encoders,
    find_head,
    find_reduction,
    find_widths,
)
from ktdn_plugin.checkpoints.metadata import network_of, settings_of
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.state_dicts import StateDict, compare_keys

_logger = logging.getLogger(__name__)

SETTINGS = ("mean", "std")
"""The buffers of a KTDN that are in no checkpoint, but in what :func:`store_settings` was given."""

OPTIONS = ("encoder", *SETTINGS, "reduction", "head", "widths")
"""What a KTDN is built with."""


def load_network(
    path: str | Path, encoder: str | None = None, param_key: str | None = None
) -> KTDN:
    """Builds the network that a checkpoint is of, with its weights.

    What the file says about itself (its metadata) comes first; the rest is found from the weights.
    Nothing in the file is run, and nothing is downloaded.

    Args:
        path: A ``.pth`` or ``.safetensors`` file: ours, BasicSR's (``params``, ``params_ema``), the
            published layout, mmengine's, or a bare state dict.
        encoder: Name of a timm backbone, where the file does not name it and it is none of the
            usual ones.
        param_key: Where in the file the weights are, see
            :meth:`~ktdn_plugin.checkpoints.Checkpoint.select`; without it the averaged ones where
            there are any.

    Returns:
        The network on the CPU, float32, in eval mode.

    Raises:
        KTDNError: If the file cannot be read, or is not a KTDN's.

    Example:
        >>> network = load_network("ktdn_small")
        >>> network.encoder.name, network.head
        ('mobilenetv2_100', 'affine')
    """
    checkpoint = Checkpoint.read(path)
    options, guesses = options_of(checkpoint, encoder)
    return build_network(checkpoint.select_ktdn(param_key), options, path, guesses)


def options_of(checkpoint: Checkpoint, encoder: str | None) -> tuple[dict[str, Any], list[str]]:
    """Returns what a checkpoint says its network is built with, and which of it was a guess.

    Args:
        checkpoint: The checkpoint.
        encoder: Name of a timm backbone that is known better.
    """
    options, guesses = checkpoint.network_options, checkpoint.guesses
    if encoder is not None:
        options["encoder"] = encoder
        guesses = [key for key in guesses if key != "encoder"]
    return options, guesses


_FROM_SHAPES: dict[str, Callable[[Mapping[str, Tensor]], Any]] = {
    "reduction": find_reduction,
    "head": find_head,
    "widths": find_widths,
}


class Completed(NamedTuple):
    """All that a network has to be built with, and how sure that is."""

    options: dict[str, Any]  # those that OPTIONS names
    found: list[str]  # those that no file has told: from the weights, or the defaults
    others: list[str]  # encoders that would fit as well as the one that was found


def complete_options(
    weights: Mapping[str, Tensor],
    options: Mapping[str, Any],
    path: str | Path,
    guesses: Iterable[str] = (),
) -> Completed:
    """Completes what is known of a network by what its weights tell, and by the defaults.

    Args:
        weights: A KTDN's state dict in our layout.
        options: Any of :data:`OPTIONS`.
        path: The file, for messages.
        guesses: Which of ``options`` had been found in this way when the file was written.

    Returns:
        All of them.

    Raises:
        KTDNError: If the weights do not tell.
    """
    defaults = inspect.signature(KTDN).parameters
    complete: dict[str, Any] = {key: list(defaults[key].default) for key in SETTINGS}
    saved = read_settings(weights, path)
    complete |= saved
    complete |= options
    others: list[str] = []
    try:
        for key, find in _FROM_SHAPES.items():
            if key not in complete:
                complete[key] = find(weights)
        if "encoder" not in complete:
            complete["encoder"], *others = find_encoders(weights)
    except KTDNError as error:
        raise KTDNError(f"{path}: {error}") from error
    if "encoder" in guesses:
        # Another timm version may no longer find what was found then, which stays valid.
        with contextlib.suppress(KTDNError):
            others = [name for name in find_encoders(weights) if name != complete["encoder"]]
    return Completed(
        {key: complete[key] for key in OPTIONS},
        [key for key in OPTIONS if key not in {**options, **saved} or key in guesses],
        others,
    )


def doubt(completed: Completed) -> str:
    """Returns the other encoders that would fit, as part of a message; empty if none."""
    if not completed.others:
        return ""
    return (
        f"its encoder was inferred from the weights; {completed.options['encoder']} is used, "
        "though "
        f"{', '.join(completed.others)} would fit as well (--encoder, or encoder= in Python, names "
        "another)"
    )


def warn_if_ambiguous(completed: Completed, path: str | Path) -> None:
    """Logs what :func:`doubt` says, if anything."""
    if text := doubt(completed):
        _logger.warning("%s: %s", path, text)


def build_network(
    weights: Mapping[str, Tensor],
    options: Mapping[str, Any],
    path: str | Path,
    guesses: Iterable[str] = (),
) -> KTDN:
    """Builds a KTDN with these weights; none of its own are drawn where that can be avoided.

    Args:
        weights: Its state dict in our layout.
        options: What is known of the network's arguments; the rest is found.
        path: The file, for messages.
        guesses: See :func:`complete_options`.

    Returns:
        The network on the CPU, float32, in eval mode.

    Raises:
        KTDNError: If the weights do not fit.
    """
    completed = complete_options(weights, options, path, guesses)
    warn_if_ambiguous(completed, path)
    options = completed.options
    network = empty_network(options, path)
    wanted = network.state_dict()
    weights = without_settings(weights)
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


def store_settings(network: KTDN) -> None:
    """Has a network's state dict hold its mean and std, where they are not the published ones.

    For programs that save weights and no metadata; our own files name them in that.
    """
    defaults = inspect.signature(KTDN).parameters
    if any(settings_of(getattr(network, key)) != list(defaults[key].default) for key in SETTINGS):
        for key in SETTINGS:
            network.register_buffer(key, getattr(network, key), persistent=True)


def read_settings(weights: Mapping[str, Tensor], path: str | Path) -> dict[str, Any]:
    """Returns the mean and std that :func:`store_settings` has added, where it has.

    Raises:
        KTDNError: If they are no such values.
    """
    saved: dict[str, Any] = {}
    for key in SETTINGS:
        if key in weights:
            if weights[key].numel() != 3:
                shape = tuple(weights[key].shape)
                raise KTDNError(f"{path}: its '{key}' is {shape}, not three numbers")
            saved[key] = settings_of(weights[key])
    return network_of({"network": saved}, path)


def without_settings(weights: Mapping[str, Tensor]) -> StateDict:
    """Leaves out what :func:`store_settings` has added; :func:`complete_options` reads it."""
    return {key: value for key, value in weights.items() if key not in SETTINGS}


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
    """Returns whether a network has no tensors but those of its state dict and its settings."""
    saved = network.state_dict().keys()
    if any(name not in saved for name, _ in network.named_buffers() if name not in SETTINGS):
        return False
    return not any(
        isinstance(value, Tensor) for module in network.modules() for value in vars(module).values()
    )
