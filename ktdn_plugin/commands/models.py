"""``ktdn models``: list the named networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import valued


def models(
    pattern: Annotated[str, Parameter(name="PATTERN", show_default="all")] = "",
    /,
    *,
    sizes: Annotated[Sequence[str], valued("WIDTHxHEIGHT...", name=("--sizes", "--size"))] = (
        "256x256",
        "1600x1200",
    ),
) -> None:
    """List the named networks: parameters, FLOPs and memory.

    Args:
        pattern: Names to list, such as '*small*'.
        sizes: Image sizes in pixels.
    """
    from ktdn_plugin.bench.costs import print_models

    print_models(pattern, sizes)
