"""The named sizes of KTDN: listing them, and building one by its name, as timm does."""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ktdn_plugin.archs.ktdn_arch import KTDN
from ktdn_plugin.checkpoints import Checkpoint, load_weights
from ktdn_plugin.checkpoints.networks import complete_options, read_settings
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.model_zoo.weights import SHIPPED, resolve_checkpoint


class Variant(NamedTuple):
    """One of the named networks.

    Attributes:
        encoder: Its timm backbone; timm publishes ImageNet weights of each.
        text: What it is for, in a few words.
        head: What it ends in, see :class:`~ktdn_plugin.archs.KTDN`.
        widths: Channels of its skip connections; None where they follow from the encoder.
    """

    encoder: str
    text: str
    head: Literal["tanh", "affine"] = "tanh"
    widths: tuple[int, int, int] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What :class:`~ktdn_plugin.archs.KTDN` is built with."""
        return {"encoder": self.encoder, "head": self.head, "widths": self.widths}


# Both small encoders are made of convolutions, batch norms that fold into them, and ReLUs: no layer
# norm, no squeeze and excitation, no attention, so that exported networks run wherever
# convolutions do. Both end in a gain and an offset: what a small network draws itself is blurred.
VARIANTS: dict[str, Variant] = {
    "ktdn": Variant("res2net101d", "the published network"),
    "ktdn_small": Variant("mobilenetv2_100", "for CPUs and GPUs alike", "affine", (192, 80, 160)),
    "ktdn_tiny": Variant("mobilenetv2_100", "for phones", "affine", (96, 40, 48)),
}


def list_models(filter: str = "") -> list[str]:
    """Lists the named networks.

    Args:
        filter: A pattern such as ``"*small*"``; all of them where it is empty.

    Returns:
        Their names, for :func:`create_model`, from large to small.

    Example:
        >>> list_models("*small*")
        ['ktdn_small']
    """
    return [name for name in VARIANTS if not filter or fnmatch.fnmatchcase(name, filter)]


def find_variant(name: str) -> Variant:
    """Returns a named network's description.

    Raises:
        KTDNError: If there is none of that name.
    """
    if name not in VARIANTS:
        raise KTDNError(
            f"there is no model '{name}'{did_you_mean(name, VARIANTS)} "
            f"(there are {', '.join(VARIANTS)})"
        )
    return VARIANTS[name]


def create_model(
    name: str,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    encoder_weights: bool | str | Path = False,
    **kwargs: Any,
) -> KTDN:
    """Builds a named network.

    Args:
        name: One of :func:`list_models`.
        pretrained: Whether to load the weights that come with the package, the whole network's.
        checkpoint: A trained KTDN to load, in any layout that
            :func:`~ktdn_plugin.checkpoints.load_weights` takes; it has the encoder's weights too.
            What its metadata says of the other arguments is taken, unless they are given.
        encoder_weights: What the encoder of a network to be trained starts from: ``True`` for
            timm's ImageNet weights, a path for a file of them, ``False`` for random ones.
        **kwargs: Other arguments of :class:`~ktdn_plugin.archs.KTDN`: ``mean``, ``std``,
            ``reduction``, ``head``, ``widths``.

    Returns:
        The network, in training mode on the CPU.

    Raises:
        KTDNError: If there is no such model or argument, if several kinds of weights are asked
            for, if they are not available, or if the checkpoint says that it is of another network.
        ValueError: If an argument's value is wrong.

    Example:
        >>> network = create_model("ktdn_small", pretrained=True).eval()
        >>> network(torch.rand(1, 3, 48, 64)).shape
        torch.Size([1, 3, 48, 64])
    """
    variant = find_variant(name)
    check_arguments(name, kwargs, known=NETWORK_ARGUMENTS)
    if pretrained not in (False, True):
        raise KTDNError(
            f"model '{name}': pretrained must be True or False, not {str(pretrained)!r}; a file "
            "of the "
            "encoder's weights is encoder_weights, one of the whole network's checkpoint"
        )
    given = {
        "pretrained": pretrained,
        "checkpoint": checkpoint is not None,
        "encoder_weights": encoder_weights,
    }
    asked = [key for key, value in given.items() if value]
    if len(asked) > 1:
        raise KTDNError(
            f"model '{name}': {' and '.join(asked)} each set the encoder's weights; keep only "
            "one of them"
        )
    if pretrained and name not in SHIPPED:
        raise KTDNError(
            f"model '{name}': no trained weights ship with it (they do with {', '.join(SHIPPED)}); "
            "checkpoint takes a file, encoder_weights=True the encoder's ImageNet weights"
        )
    if pretrained:
        checkpoint = resolve_checkpoint(name)
    if checkpoint is None:
        return KTDN(**{**variant.arguments, "pretrained": encoder_weights, **kwargs})
    read = Checkpoint.read(checkpoint)
    told = {**read_settings(read.weights, checkpoint), **read.network_options}
    told.pop("encoder", None)
    network = KTDN(**{**variant.arguments, **told, **kwargs})
    try:
        load_weights(network, read)
    except KTDNError as error:
        other = _other_encoder(variant.encoder, read)
        if other is None:
            raise
        raise KTDNError(
            f"{checkpoint}: a checkpoint of a different network: it has encoder {other}, {name} "
            "has "
            f"{variant.encoder}; ktdn_plugin.load_network({str(checkpoint)!r}) loads it as it is"
        ) from error
    return network


def _other_encoder(encoder: str, checkpoint: Checkpoint) -> str | None:
    """Finds a checkpoint's encoder; None where it is this one, or cannot be found."""
    with contextlib.suppress(KTDNError):
        weights = checkpoint.select_ktdn()
        found = complete_options(
            weights, checkpoint.network_options, checkpoint.path, checkpoint.guesses
        )
        own: str = found.options["encoder"]
        if encoder not in (own, *found.others):
            return own
    return None


NETWORK_ARGUMENTS = tuple(
    name for name in inspect.signature(KTDN).parameters if name not in ("encoder", "pretrained")
)
"""What a named network leaves open."""


def check_arguments(model: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    """Checks that a model takes the arguments that it is given.

    Args:
        model: Its name, for the message.
        given: The arguments.
        known: Those that it takes.

    Raises:
        KTDNError: If it does not take one of them.
    """
    for name in given:
        if name in known:
            continue
        if name == "encoder":
            hint = "; its name says which: use KTDN(encoder=...) for another one"
        else:
            hint = did_you_mean(name, (*known, "pretrained", "checkpoint", "encoder_weights"))
        raise KTDNError(
            f"model '{model}' takes no argument '{name}'{hint} (it takes {', '.join(known)})"
        )
