"""The comparison's picture: scenes under both kinds of haze, and the distributions below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.haze import synthesize_haze
from ktdn_plugin.data.haze_statistics import (
    HazeStatistics,
    at_working_size,
    local_transmission,
    measure_haze,
)
from ktdn_plugin.haze_comparison.pairs import Pair
from ktdn_plugin.haze_comparison.table import KINDS, Measured
from ktdn_plugin.pictures import PAPER, Pixels, comparison_sheet

COLUMNS = (
    *("clear", "real haze", "made haze"),
    *("t found, real", "t found, made", "t known, made"),
)
KEY = "blue 0, yellow 1"
CELL = 288  # pixels of an image's longer side
UNKNOWN = (150, 150, 150)  # where the clear image has no texture: not a colour of the map
COLOURS = {"real": "#000000", "made": "#0072B2", "flat": "#D55E00"}  # Okabe and Ito's
DOTS_PER_INCH = 110
PANELS = 5  # in a row


Row = Sequence[tuple[Pixels, str]]


def draw_row(pair: Pair, seed: int, ranges: dict[str, Any]) -> Row:
    """Draws one pair: its images, made haze of the same scene, and both transmissions.

    Yellow is clear, dark blue is opaque, grey is where the clear image has no texture that would
    tell. The made transmission is shown as it is found, too, as it alone compares with the real.
    """
    clear, hazy = _fitted(pair.clear), _fitted(pair.hazy)
    made = synthesize_haze(clear, seed, **ranges)
    image = np.rint(made.hazy * 255).astype(np.uint8)
    return [
        (clear, pair.name),
        (hazy, _caption(measure_haze(pair.hazy, pair.clear))),
        (image, _caption(measure_haze(image, clear))),
        _found(hazy, clear),
        _found(image, clear),
        (_coloured(made.transmission), KEY),
    ]


def draw_comparison(rows: Sequence[Row], measured: Measured) -> Pixels:
    """Puts the rows and, below, the distributions of all statistics into one picture."""
    sheet = comparison_sheet(rows, COLUMNS, max_cell_width=CELL)
    below = _distributions(measured, sheet.shape[1])
    picture = np.full((len(sheet) + len(below), sheet.shape[1], 3), PAPER, np.uint8)
    picture[: len(sheet)] = sheet
    picture[len(sheet) :, : below.shape[1]] = below[:, : sheet.shape[1]]
    return picture


def _caption(statistics: HazeStatistics) -> str:
    return f"loss {statistics.contrast_loss:.2f}, variation {statistics.variation:.2f}"


def _fitted(rgb: Pixels) -> Pixels:
    height, width = rgb.shape[:2]
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, size, interpolation=how), dtype=np.uint8)


def _found(hazy: Pixels, clear: Pixels) -> tuple[Pixels, str]:
    t = local_transmission(at_working_size(hazy), at_working_size(clear))
    known = t[np.isfinite(t)]
    low, high = np.quantile(known, (0.1, 0.9)) if known.size else (np.nan, np.nan)
    size = (clear.shape[1], clear.shape[0])
    # Nearest: NaN would spread, and the map is smooth anyway.
    shown = np.asarray(cv2.resize(t, size, interpolation=cv2.INTER_NEAREST), dtype=np.float32)
    return _coloured(shown), f"80 % in {low:.2f} to {high:.2f}"


def _coloured(transmission: NDArray[np.float32]) -> Pixels:
    levels = np.rint(255 * np.clip(np.nan_to_num(transmission), 0, 1)).astype(np.uint8)
    bgr = cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    rgb[np.isnan(transmission)] = UNKNOWN
    return rgb


def _distributions(measured: Measured, width: int) -> Pixels:
    import matplotlib
    from matplotlib.figure import Figure

    from ktdn_plugin.curves.figure import pixels_of

    fields = HazeStatistics._fields
    rows = -(-len(fields) // PANELS)
    # A person's own defaults, such as a dark style, would not go with the sheet.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        size = (width / DOTS_PER_INCH, 1.9 * rows)
        paper = "#{:02x}{:02x}{:02x}".format(*PAPER)
        figure = Figure(size, DOTS_PER_INCH, facecolor=paper, layout="constrained")
        for axes, field in zip(figure.subplots(rows, PANELS).flat, fields, strict=True):
            for height, kind in enumerate(reversed(KINDS)):
                values = measured.values(kind, field)
                if not values.size:
                    continue
                # Fixed jitter, so that equal values do not hide each other.
                jitter = 0.32 * ((np.arange(values.size) * 0.618) % 1 - 0.5)
                colour = COLOURS[kind]
                axes.plot(values, height + jitter, ".", color=colour, alpha=0.35, markersize=3)
                low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
                axes.plot([low, high], [height, height], color=colour, linewidth=2)
                axes.plot(median, height, "o", color=colour, markersize=6)
            axes.set_yticks(range(len(KINDS)), list(reversed(KINDS)), fontsize=9)
            axes.set_title(field.replace("_", " "), fontsize=10)
            axes.tick_params(axis="x", labelsize=8)
            axes.grid(axis="x", alpha=0.3)
        return pixels_of(figure)
