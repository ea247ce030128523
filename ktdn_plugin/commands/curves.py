"""``ktdn curves``: plot training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import OUTPUT


def curves(
    runs: Annotated[Sequence[Path], Parameter(name="RUN")],
    /,
    *,
    output: Annotated[Path, OUTPUT] = Path("curves.png"),
) -> None:
    """Plot losses and validation metrics of training runs in one picture.

    Args:
        runs: Folders of runs: experiments/NAME, work_dirs/NAME.
        output: Where to write. A picture.
    """
    from ktdn_plugin.curves import draw_curves

    draw_curves(runs, output)
