"""The picture to look at: what is suspicious, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.edges import find_edges, make_grey, working_size
from ktdn_plugin.checking.findings import Finding, Picture, Row
from ktdn_plugin.photos import write_rgb
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.sheets import comparison_sheet

MOST_ROWS = 24
DUPLICATE_ROWS = 8  # of these, kept free for duplicates
CELL = 400
COLUMNS = ("hazy, or first", "clear, or second", "edges: first red, second blue; or better match")

STRONG = 1.5  # edge strength that is drawn in full colour

Pixels = NDArray[np.uint8]


def choose_rows(findings: Sequence[Finding]) -> tuple[list[Row], int]:
    """Chooses what is shown: the worst pairs, then duplicates.

    Returns:
        The rows, and how many there would be.
    """
    rows = [(f.kind == "duplicate", f.row) for f in findings if f.row is not None]
    pairs, duplicates = (
        sorted((row for is_one, row in rows if is_one is kind), key=lambda row: -row.badness)
        for kind in (False, True)
    )
    room = MOST_ROWS - min(DUPLICATE_ROWS, len(duplicates))
    shown = pairs[:room]
    return shown + duplicates[: MOST_ROWS - len(shown)], len(rows)


def write_sheet(path: Path, rows: Sequence[Row], sets: Sequence[SceneSet]) -> None:
    """Writes the contact sheet.

    Args:
        path: The picture, an image file of a format that is written.
        rows: What to show, from top to bottom; one or more.
        sets: The sets that they are from.

    Raises:
        KTDNError: If it cannot be written, or an image cannot be read anymore.
    """
    write_rgb(
        path, comparison_sheet([_cells(row, sets) for row in rows], COLUMNS, max_cell_width=CELL)
    )


def _cells(row: Row, sets: Sequence[SceneSet]) -> list[tuple[Pixels, str]]:
    first, second = _load(row.first, sets), _load(row.second, sets)
    names = [_caption(picture, sets) for picture in (row.first, row.second)]
    if row.better is None:
        third = _overlay(first, second), row.verdict
    else:
        # The file's own name alone: captions are as wide as the picture.
        names[1] += f": {row.verdict}"
        third = _load(row.better, sets), f"looks like {Path(_caption(row.better, sets)).name}"
    return [(first, names[0]), (second, names[1]), third]


def _load(picture: Picture, sets: Sequence[SceneSet]) -> Pixels:
    rgb = sets[picture.owner].side(picture.side).read(picture.number)
    scale = min(1.0, CELL / rgb.shape[1])
    if scale < 1:
        size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.ascontiguousarray(rgb[:, ::-1]) if picture.mirrored else rgb


def _caption(picture: Picture, sets: Sequence[SceneSet]) -> str:
    """Returns the end of a file's path, which tells most."""
    scenes = sets[picture.owner]
    parts = Path(scenes.side(picture.side).name(picture.number)).parts
    name = "/".join(parts[-3:] if len(sets) > 1 else parts[-2:])
    return f"{name} (mirrored)" if picture.mirrored else name


def _overlay(first: Pixels, second: Pixels) -> Pixels:
    """Draws both images' edges into one: red and blue, dark where they meet."""
    size = working_size(*second.shape[:2]) or second.shape[:2]
    strengths = [np.abs(find_edges(make_grey(image, size))) / STRONG for image in (first, second)]
    red, blue = (np.clip(strength, 0, 1) for strength in strengths)
    # On white: an edge of the first takes away green and blue, one of the second red and green.
    channels = [1 - blue, 1 - np.maximum(red, blue), 1 - red]
    return np.rint(np.stack(channels, axis=-1) * 255).astype(np.uint8)
