"""The table that ``ktdn models`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from ktdn_plugin.bench.costs import ModelDescription, describe_model, parse_size
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.text_tables import table_lines
from ktdn_plugin.variants import VARIANTS, list_models

FOOTNOTE = (
    "FLOPs: convolutions and matrix products, a multiplication and an addition being two. Memory: "
    "weights, image and features alive at a time, float32, one image as a whole; workspace of "
    "convolution libraries comes on top."
)


def print_models(pattern: str, sizes: Sequence[str]) -> None:
    """Prints what the named networks are and cost.

    Args:
        pattern: Which of them, such as ``"*small*"``; all where it is empty.
        sizes: Image sizes to say it for, such as ``1600x1200``.

    Raises:
        KTDNError: If there is none to print, or a size is none.
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
    """Formats descriptions, all of the same image sizes, as lines of a table."""
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
