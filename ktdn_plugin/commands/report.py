"""``ktdn report``: runs as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import GT, OUTPUT, Whole, valued


def report(
    folders: Annotated[Sequence[str], Parameter(name="RUN_OR_FOLDER")],
    /,
    *,
    output: Annotated[Path, OUTPUT] = Path("report.html"),
    hazy: Annotated[
        Path | None, Parameter(show_default="those of the run or dehazed folder")
    ] = None,
    gt: Annotated[Path | None, GT] = None,
    title: Annotated[str | None, valued("TEXT", show_default="the folders' names")] = None,
    max_width: Annotated[Whole, valued("PIXELS")] = 1200,
    photos: Whole = 24,
) -> None:
    """Show curves, results and photographs of runs as one page for any browser.

    Args:
        folders: A run (experiments/NAME, work_dirs/NAME, results/NAME), a folder of 'ktdn demo',
            'ktdn dehaze' or of images, or a CSV of metrics. NAME=FOLDER names it.
        output: Where to write. A page, .html.
        hazy: Hazy images. A folder or store.
        gt: Clear images, the ground truth. A folder or store; one with hazy and clear images in it
            gives both.
        title: The page's title.
        max_width: Maximum image width, in pixels.
        photos: Maximum number of photographs.
    """
    from ktdn_plugin.report import write_report

    write_report(
        folders, output, hazy=hazy, clear=gt, title=title, max_width=max_width, photos=photos
    )
