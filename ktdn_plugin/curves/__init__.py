"""``ktdn curves``: the losses and validation figures of training runs, drawn into one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.console import print_lines
from ktdn_plugin.curves.figure import draw_figure, render_pixels, render_svg
from ktdn_plugin.curves.run import Run
from ktdn_plugin.curves.runs import log_of, read_run
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import PHOTO_SUFFIXES, write_rgb
from ktdn_plugin.storage.atomic import make_folder, write_whole


def draw_curves(runs: Sequence[Path], output: Path) -> None:
    """Draws the losses, learning rates and validation figures of runs into one picture.

    Args:
        runs: The runs' folders.
        output: Picture to write: a drawing (.svg), or an image file (.png, .jpg, ...).

    Raises:
        KTDNError: A folder is not a run's, is given twice or its log cannot be read, or the picture
            cannot be written.
        ValueError: No run is given.
    """
    import matplotlib

    if not runs:
        raise ValueError("curves need at least one run")
    endings = (".svg", *PHOTO_SUFFIXES)
    if output.suffix.lower() not in endings:
        raise KTDNError(
            f"{output}: curves can be written as {', '.join(endings)}; use such a suffix"
        )
    seen: dict[Path, Path] = {}
    for run in runs:
        log_of(run)
        twin = seen.get(run.resolve())
        if twin is not None:
            also = "" if twin == run else f", also as {twin}"
            raise KTDNError(f"{run}: given twice{also}; remove one")
        seen[run.resolve()] = run
    # The user's own defaults, such as a dark style, would not go with the colours here.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = draw_figure(_runs_with_curves(runs))
        if output.suffix.lower() == ".svg":
            drawing = render_svg(figure)
            make_folder(output.parent)
            write_whole(output, lambda file: file.write(drawing))
        else:
            write_rgb(output, render_pixels(figure))
    print_lines(f"Picture: {output}")


def _runs_with_curves(folders: Sequence[Path]) -> list[Run]:
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if not run.has_curves:
            raise KTDNError(f"{run.folder}: has no curves: it holds a test, not a training")
    return runs
