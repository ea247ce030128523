"""KTDN for programs that load networks with spandrel: chaiNNer, ComfyUI and others.

spandrel has no entry points: a program calls :func:`install` once, before it loads a file.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ktdn_plugin.archs import KTDN
from ktdn_plugin.archs.ktdn_arch import MINIMUM, MULTIPLE
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.identify import check_is_ktdn
from ktdn_plugin.checkpoints.metadata import KEY, network_of
from ktdn_plugin.checkpoints.networks import build_network, store_settings
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.storage.mmengine_keys import from_mmengine
from ktdn_plugin.storage.published_keys import (
    LANDMARKS,
    PUBLISHED_LANDMARKS,
    from_published,
    is_published,
)
from ktdn_plugin.storage.safe_loading import NotReadHereError
from ktdn_plugin.storage.state_dicts import without_prefix

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchRegistry,
        ArchSupport,
        ImageModelDescriptor,
        ModelLoader,
        ModelTiling,
        SizeRequirements,
        StateDict,
        canonicalize_state_dict,
    )
except ImportError as error:
    raise KTDNError(
        f"spandrel cannot be imported ({error}); install it: pip install spandrel"
    ) from error

NAME = "KTDN"
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
"""Of the files that spandrel reads."""

_FILE = "file"


def install(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Lets spandrel load KTDN's files; may be called any number of times.

    Adds the architecture, and has ``ModelLoader`` hand over to us what spandrel drops or cannot
    read: the metadata beside the weights (a network's ``mean`` and ``std`` are nowhere else), and
    mmengine's files, whose log its unpickler refuses. Each file's names and shapes are looked at
    first, so that damaged ones are refused by name; other networks' files go spandrel's way.

    Args:
        registry: Where to add it; spandrel's main registry is what programs use.
    """
    # KTDN is found by names that no other network has; looked for first, none can take its files.
    others = tuple(support.architecture.id for support in registry)
    support = ArchSupport.from_architecture(KTDNArchitecture(), before=others)
    registry.add(support, ignore_duplicates=True)
    _teach_loader()


class KTDNDescriptor(ImageModelDescriptor[KTDN]):
    """A loaded KTDN as spandrel describes networks.

    Its size requirements are what programs that cut tiles should know; the network pads by itself,
    so that an image of any size gives what the network itself gives, clamped to [0, 1].
    """

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Dehazes images.

        Args:
            image: RGB (n, 3, h, w) in [0, 1], of the network's device and data type.

        Returns:
            The same shape, in [0, 1].

        Raises:
            ValueError: If ``image`` has another shape.
        """
        return self.model(image).clamp_(0, 1)


class KTDNArchitecture(Architecture[KTDN]):
    """KTDN with any encoder, in our layout, the published one or mmengine's."""

    def __init__(self) -> None:
        super().__init__(id=NAME, name=NAME, detect=is_ktdn)

    def load(self, state_dict: StateDict) -> KTDNDescriptor:
        """Builds the network that a state dict is of.

        Args:
            state_dict: Its weights, as spandrel's ``canonicalize_state_dict`` leaves them.

        Raises:
            KTDNError: If they are no whole KTDN's, or do not tell which encoder it has.
        """
        # Whoever has put the state dict together may mean anything by this name.
        notes = state_dict.get(KEY)
        notes = dict(notes) if isinstance(notes, Mapping) else {}
        source = notes.get(_FILE, "state dict")
        weights = _in_our_layout(state_dict)
        network = build_network(weights, network_of(notes, source), source)
        # Programs save a model's state dict, without the metadata.
        store_settings(network)
        return KTDNDescriptor(
            network,
            network.state_dict(),
            architecture=self,
            purpose="Restoration",
            tags=[network.encoder.name],
            supports_half=True,
            supports_bfloat16=True,
            scale=1,
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(minimum=MINIMUM, multiple_of=MULTIPLE),
            # Channel attention averages over all that the network sees: tiles get visible seams.
            tiling=ModelTiling.DISCOURAGED,
        )


def is_ktdn(state_dict: Mapping[str, Any]) -> bool:
    """Returns whether a state dict is a KTDN's, in any of its layouts."""
    try:
        check_is_ktdn(_in_our_layout(state_dict))
    except KTDNError:
        return False
    return True


def _in_our_layout(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    weights = {k: v for k, v in state_dict.items() if isinstance(k, str) and k != KEY}
    # Of mmengine's files spandrel leaves the names of the model that trained the network.
    weights = from_mmengine({"state_dict": weights})
    weights = without_prefix(weights, (*LANDMARKS, *PUBLISHED_LANDMARKS))
    return from_published(weights) if is_published(weights) else weights


def _teach_loader() -> None:
    read, load = ModelLoader.load_state_dict_from_file, ModelLoader.load_from_state_dict
    if hasattr(read, "knows_ktdn"):
        return

    @functools.wraps(read)
    def load_state_dict_from_file(self: ModelLoader, path: str | Path) -> StateDict:
        path = resolve_checkpoint(path)
        return _read(path) if _is_ktdn_file(path) else read(self, path)

    @functools.wraps(load)
    def load_from_state_dict(self: ModelLoader, state_dict: StateDict) -> Any:
        # What a program has read by itself (ComfyUI does) may have our metadata beside the weights.
        if not is_ktdn(state_dict) and is_ktdn(canonicalize_state_dict(state_dict)):
            state_dict = _with_notes(Checkpoint(state_dict, "state dict"))
        return load(self, state_dict)

    load_state_dict_from_file.knows_ktdn = True  # type: ignore[attr-defined]
    ModelLoader.load_state_dict_from_file = load_state_dict_from_file
    ModelLoader.load_from_state_dict = load_from_state_dict


def _is_ktdn_file(path: Path) -> bool:
    if path.suffix.lower() not in SUFFIXES or not path.exists():
        return False
    try:
        checkpoint = Checkpoint.read(path, without_numbers=True)
    except NotReadHereError:
        return False
    try:
        checkpoint.select_ktdn()
    except KTDNError:
        return False
    return True


def _read(path: str | Path) -> StateDict:
    return _with_notes(Checkpoint.read(path))


def _with_notes(checkpoint: Checkpoint) -> StateDict:
    """Returns a checkpoint's weights, and beside them what it says of its network."""
    notes = {"network": checkpoint.network_options, _FILE: str(checkpoint.path)}
    return {**checkpoint.select_ktdn(), KEY: notes}
