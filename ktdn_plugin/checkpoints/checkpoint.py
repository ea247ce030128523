"""A checkpoint file as it was read: its weights, its metadata and its layout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ktdn_plugin.checkpoints.identify import check_is_ktdn
from ktdn_plugin.checkpoints.metadata import Metadata, find_metadata, found_of, network_of
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.model_zoo.weights import file_of, resolve_checkpoint
from ktdn_plugin.storage.mmengine_keys import is_mmengine
from ktdn_plugin.storage.published_keys import DEAD, dead_entries, from_published, is_published
from ktdn_plugin.storage.safe_loading import is_safetensors, load_tensors
from ktdn_plugin.storage.state_dicts import StateDict, select_weights

PARAM_KEYS = ("params", "params_ema")
"""The weights that were trained, and their average."""


class Checkpoint:
    """A checkpoint file of any layout: ours, BasicSR's, mmengine's, the published one, safetensors.

    Args:
        content: What the file holds.
        path: The file, or the name of a network that comes with the package; messages begin with
            it.

    Example:
        >>> checkpoint = Checkpoint.read("ktdn_small")
        >>> checkpoint.layout, checkpoint.metadata["network"]["encoder"]
        ('safetensors', 'mobilenetv2_100')
        >>> checkpoint.weights["tail.1.weight"].shape
        torch.Size([6, 12, 7, 7])
    """

    def __init__(self, content: Any, path: str | Path) -> None:
        self.content = content
        self.path = path

    @classmethod
    def read(cls, path: str | Path, *, without_numbers: bool = False) -> Checkpoint:
        """Reads a checkpoint onto the CPU; nothing in the file is run.

        Args:
            path: A ``.pth`` or ``.safetensors`` file, or the name of a network that comes with the
                package.
            without_numbers: Leaves the tensors' numbers in the file: names, shapes and types alone
                are read.

        Raises:
            KTDNError: If the file is not there, is truncated or no checkpoint, is an exported
                network, or would need code to be run to be read.
        """
        return cls(load_tensors(resolve_checkpoint(path), without_numbers), path)

    @cached_property
    def weights(self) -> StateDict:
        """The averaged weights where there are any, else the trained ones: see :meth:`select`."""
        return self.select()

    def select(self, param_key: str | None = None) -> StateDict:
        """Returns one network's weights, of whatever network.

        Args:
            param_key: Where in the file they are, such as ``params``. Where the file has none of
                that name, or none is given, they are taken from the first that it has of
                :data:`~ktdn_plugin.storage.state_dicts.WEIGHT_KEYS`. Of mmengine's files ``params``
                are the weights that were trained, anything else their average.

        Returns:
            Name to tensor, without the prefixes of wrappers; a KTDN in our layout.

        Raises:
            KTDNError: If the file lacks a ``param_key`` that is none of the usual ones, or holds no
                network's weights.
        """
        weights = select_weights(self.content, self.path, param_key)
        return from_published(weights) if is_published(weights) else weights

    def select_ktdn(self, param_key: str | None = None) -> StateDict:
        """Returns a KTDN's weights in our layout.

        Args:
            param_key: As for :meth:`select`.

        Raises:
            KTDNError: If the file holds something else; it is named.
        """
        if self.is_training_state:
            raise KTDNError(f"{self.path}: {self.describe_state()}")
        weights = self.select(param_key)
        try:
            check_is_ktdn(weights)
        except KTDNError as error:
            raise KTDNError(f"{self.path}: {error}") from error
        return weights

    @property
    def param_keys(self) -> tuple[str, ...]:
        """Which of :data:`PARAM_KEYS` are in the file; ``params`` for weights without a name."""
        if is_mmengine(self.content):
            return PARAM_KEYS if "ema_state_dict" in self.content else ("params",)
        return tuple(key for key in PARAM_KEYS if self.content.get(key) is not None) or ("params",)

    @cached_property
    def layout(self) -> str:
        """One of :data:`~ktdn_plugin.checkpoints.layouts.LAYOUTS`; ``bare``: a mere state dict."""
        if is_mmengine(self.content):
            return "mmengine"
        if is_published(select_weights(self.content, self.path)):
            return "published"
        if is_safetensors(file_of(self.path)):
            return "safetensors"
        return "ktdn" if any(key in self.content for key in PARAM_KEYS) else "bare"

    @cached_property
    def metadata(self) -> Metadata:
        """What the file says about itself, see :mod:`ktdn_plugin.checkpoints.metadata`."""
        return find_metadata(self.content, self.path)

    @property
    def network_options(self) -> dict[str, Any]:
        """The arguments of :class:`~ktdn_plugin.archs.KTDN`, as far as the metadata has them."""
        return network_of(self.metadata, self.path)

    @property
    def guesses(self) -> list[str]:
        """Which of :attr:`network_options` were found from the weights when the file was made."""
        return found_of(self.metadata)

    @property
    def is_training_state(self) -> bool:
        """Whether this is what BasicSR resumes a training from, which holds no network."""
        content = self.content
        return (
            isinstance(content, Mapping)
            and {"iter", "epoch", "optimizers"} <= content.keys()
            and type(content["iter"]) is int
        )

    def describe_state(self) -> str:
        """Describes a training state, and where its network is."""
        iteration = self.content["iter"]
        return (
            f"a training state of iteration {iteration}, to resume from, not a network; the "
            "network is "
            f"models/net_g_{iteration}.pth of the same run"
        )

    def unused_entries(self) -> dict[str, list[float]]:
        """Returns what a published file has in entries that its network never uses.

        Returns:
            Name to numbers; empty where they are what every such file is given.
        """
        weights = select_weights(self.content, self.path)
        found = {key: weights[key] for key in DEAD if key in weights}
        neutral = dead_entries()
        if all(torch.equal(value, neutral[key].to(value.dtype)) for key, value in found.items()):
            return {}
        return {key: value.flatten().tolist() for key, value in found.items()}
