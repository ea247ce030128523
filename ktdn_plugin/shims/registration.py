"""KTDN in training programs that find networks as files: traiNNer-redux and neosr.

Both import every ``*_arch.py`` in their folder ``archs`` and build what an options file names out
of a registry, by named arguments. The file that ``ktdn shim`` writes there is a few lines; what
they call is here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ktdn_plugin.archs import KTDN
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.variants import check_arguments, create_model, list_models


def register_in(registry: Any, default_scale: Callable[[], int] = lambda: 1) -> None:
    """Registers KTDN and its named sizes in a registry of BasicSR's kind.

    Args:
        registry: Has ``register(function)`` and ``get(name)``, which raises ``KeyError``.
        default_scale: Gives the scale of a training whose options do not hand it to the network.
    """
    for name in ("KTDN", *list_models()):
        try:
            registry.get(name)  # whether 'ktdn' is 'KTDN' is for the program to say
        except KeyError:
            registry.register(_constructor(name, default_scale))


def build_for_training(name: str, scale: int, **arguments: Any) -> KTDN:
    """Builds a network as an options file's ``network_g`` says.

    Args:
        name: ``KTDN``, or a named network.
        scale: How many times as large the result is to be as the image: 1.
        **arguments: Of :class:`~ktdn_plugin.KTDN`, or of :func:`~ktdn_plugin.create_model`.

    Returns:
        The network: images (n, 3, h, w) give images of the same size, one tensor.

    Raises:
        KTDNError: If the scale is not 1, or an argument is not known.
    """
    if scale != 1:
        raise KTDNError(
            f"{name}: scale: {scale!r}: KTDN does not upscale; set scale: 1, and train "
            "on hazy and clear images of the same size"
        )
    if name != "KTDN":
        # In options files the word means the encoder's weights, of all networks.
        encoder_weights = arguments.pop("pretrained", False)
        return create_model(name, encoder_weights=encoder_weights, **arguments)
    check_arguments(name, arguments, known=tuple(inspect.signature(KTDN).parameters))
    return KTDN(**arguments)


def _constructor(name: str, default_scale: Callable[[], int]) -> Callable[..., Any]:
    def construct(scale: int | None = None, **arguments: Any) -> Any:
        return build_for_training(name, default_scale() if scale is None else scale, **arguments)

    construct.__name__ = construct.__qualname__ = name
    return construct
