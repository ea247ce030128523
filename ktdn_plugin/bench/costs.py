"""A network's cost in parameters, arithmetic and memory, without running it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ktdn_plugin.archs import KTDN
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.inference.rehearsal import metering
from ktdn_plugin.text_tables import table_lines
from ktdn_plugin.variants import VARIANTS, find_variant, list_models

SIZES = ((256, 256), (1600, 1200))
"""A training crop, and a photograph of NH-HAZE: (width, height)."""

FOOTNOTE = (
    "FLOPs: convolutions and matrix products, a multiplication and an addition being two. Memory: "
    "weights, image and features alive at a time, float32, one image as a whole; workspace of "
    "convolution libraries comes on top."
)


def parse_size(text: str) -> tuple[int, int]:
    """Parses an image size such as ``1600x1200``.

    Returns:
        Width and height.

    Raises:
        KTDNError: If it is not a size.
    """
    found = re.fullmatch(r"(\d+)\s*[xX]\s*(\d+)", text)
    if not found or min(map(int, found.groups())) < 1:
        raise KTDNError(f"--sizes: '{text}' is not WIDTHxHEIGHT, such as 1600x1200")
    return int(found.group(1)), int(found.group(2))


@dataclass(frozen=True)
class Cost:
    """The cost of one image of a given size.

    Attributes:
        flops: Floating-point operations of all convolutions and matrix products, counting a
            multiplication and an addition as two (so MACs are half of it).
        memory: Peak bytes, in float32, of the network as it is, run on the whole image: weights,
            image, and everything the layers have produced and still need (see
            :class:`~ktdn_plugin.inference.rehearsal.Meter`). A convolution library's workspace
            comes on top.
    """

    flops: int
    memory: int


@dataclass(frozen=True)
class ModelDescription:
    """A named network, and its cost.

    Attributes:
        name: Its name.
        encoder: Its timm backbone.
        text: What it is for.
        parameters: Its number of parameters.
        costs: Cost of one image, by (width, height).
    """

    name: str
    encoder: str
    text: str
    parameters: int
    costs: Mapping[tuple[int, int], Cost]


def describe_model(name: str, sizes: Sequence[tuple[int, int]] = SIZES) -> ModelDescription:
    """Returns what a named network costs, without computing anything or using memory.

    Args:
        name: One of :func:`~ktdn_plugin.variants.list_models`.
        sizes: Image sizes (width, height) to report costs for.

    Raises:
        KTDNError: If there is no such network.
        ValueError: If a size has a side below 1.

    Example:
        >>> describe_model("ktdn_small").parameters
        1319263
    """
    variant = find_variant(name)
    # Tensors on 'meta' have shapes but no data.
    with torch.device("meta"):
        network = KTDN(**variant.arguments).eval()
    return ModelDescription(
        name=name,
        encoder=variant.encoder,
        text=variant.text,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        costs={size: measure_cost(network, *size) for size in sizes},
    )


def measure_cost(network: nn.Module, width: int, height: int) -> Cost:
    """Measures the cost of one image for a network on the 'meta' device, in evaluation.

    Args:
        network: The network, with parameters and buffers on 'meta'.
        width: The image's width in pixels.
        height: The image's height in pixels.

    Raises:
        ValueError: If the image has no pixels.
    """
    if min(width, height) < 1:
        raise ValueError(f"an image of {width} x {height} pixels is empty")
    with metering() as meter, FlopCounterMode(display=False) as counter:
        for tensor in (*network.parameters(), *network.buffers()):
            meter.hold(tensor)
        network(torch.empty(1, 3, height, width, device="meta"))
    return Cost(counter.get_total_flops(), meter.peak)


def print_models(pattern: str, sizes: Sequence[str]) -> None:
    """Prints the named networks and their costs.

    Args:
        pattern: Which of them, such as ``"*small*"``; all if empty.
        sizes: Image sizes to report costs for, such as ``1600x1200``.

    Raises:
        KTDNError: If no network matches, or a size is invalid.
    """
    parsed = [parse_size(size) for size in sizes]
    names = list_models(pattern)
    if not names:
        raise KTDNError(
            f"there is no model '{pattern}'{did_you_mean(pattern, VARIANTS)} "
            f"(there are {', '.join(VARIANTS)})"
        )
    print_lines(*format_models([describe_model(name, parsed) for name in names]))
    print_lines("", FOOTNOTE)


def format_models(models: Sequence[ModelDescription]) -> list[str]:
    """Formats descriptions, all for the same image sizes, as lines of a table."""
    headings = ["model", "encoder", "parameters"]
    for width, height in models[0].costs:
        headings += [f"{width}x{height}: GFLOPs", "MiB"]
    texts = ["", *(model.text for model in models)]
    rows = [headings, *(_cells(model) for model in models)]
    return table_lines(
        [[*row, text] for row, text in zip(rows, texts, strict=True)],
        f"ll{'r' * (len(headings) - 2)}l",
    )


def _cells(model: ModelDescription) -> list[str]:
    cells = [model.name, model.encoder, f"{model.parameters / 1e6:.2f} M"]
    for cost in model.costs.values():
        cells += [f"{cost.flops / 1e9:.2f}", f"{cost.memory / 2**20:.0f}"]
    return cells
