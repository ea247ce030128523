"""``ktdn info``: show what checkpoint files are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def info(
    files: Annotated[Sequence[Path], Parameter(name="FILE")], /, *, json: bool = False
) -> None:
    """Show what checkpoint files are: network, encoder, training run, split and metrics.

    Args:
        files: Checkpoints in any layout, or ktdn_small, ktdn_tiny.
        json: Print a JSON list, one entry per file.
    """
    from ktdn_plugin.checkpoints.info import print_checkpoints

    print_checkpoints(files, as_json=json)
