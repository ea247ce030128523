"""``ktdn compare-haze``: real haze beside haze that is made over the same scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ktdn_plugin.checking.output import check_is_none_of, check_output
from ktdn_plugin.console import print_lines
from ktdn_plugin.data.haze import synthesize_haze
from ktdn_plugin.data.haze_statistics import at_working_size, measure_haze
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze_comparison.pairs import Pair, find_pairs, read_pair
from ktdn_plugin.haze_comparison.picture import draw_comparison, draw_row
from ktdn_plugin.haze_comparison.table import Measured, format_gaps, format_groups, format_table
from ktdn_plugin.haze_photos import check_ranges, seed_of
from ktdn_plugin.pictures import write_image

FLAT = (1.0, 1.0)  # the veil of homogeneous haze


def compare_haze(
    hazy_folder: Path,
    clear_folder: Path,
    output: Path,
    *,
    seed: int = 0,
    per_photo: int = 8,
    only: Sequence[str] = (),
    rows: int = 12,
    **ranges: Any,
) -> None:
    """Compares made haze with real haze, by statistics and by eye.

    Prints a table of the quantiles of each statistic over the pairs, for the real haze, for the
    made one, and for homogeneous haze of the same ranges, which shows what a mismatch looks
    like. Writes a picture with the same scenes under both kinds of haze, and the distributions.

    Args:
        hazy_folder: Hazy photographs.
        clear_folder: The same scenes without haze.
        output: Picture to write, ending in .png, .jpg or .jpeg; replaces an existing one.
        seed: Of the made hazes.
        per_photo: How many hazes to make over each clear photograph, 1 or more.
        only: Patterns such as ``nh_haze_*``; pairs whose name fits none are left out.
        rows: Most pairs to show in the picture, 1 or more; taken evenly.
        ranges: Options of ``synthesize_haze`` other than its defaults.

    Raises:
        KTDNError: A file has no partner, another size than it or cannot be read, a range does not
            fit, no clear image has any texture to measure by, or the picture cannot be written.
    """
    check_output(output)
    for name, number in (("--per-photo", per_photo), ("--rows", rows)):
        if number < 1:
            raise KTDNError(f"{name} must be 1 or more, got {number}")
    check_ranges(seed=seed, **ranges)
    pairs = find_pairs(hazy_folder, clear_folder, only)
    check_is_none_of(output, [path for pair in pairs for path in (pair.hazy, pair.clear)])
    shown = {round(i) for i in np.linspace(0, len(pairs) - 1, min(rows, len(pairs)))}

    measured, sheet = Measured(), []
    for number, found in enumerate(tqdm(pairs, unit="pair", disable=None, leave=False)):
        pair = read_pair(found)
        _measure(pair, seed_of(seed, number * per_photo), per_photo, ranges, measured)
        if number in shown:
            sheet.append(draw_row(pair, seed_of(seed, number * per_photo), ranges))
    if not measured.values("real", "contrast_loss").size:
        raise KTDNError(
            f"{clear_folder}: no image has enough texture to measure haze by ({len(pairs)} read); "
            "take photographs with details"
        )
    for text in (
        format_table(measured, len(pairs), per_photo),
        format_gaps(measured),
        format_groups(measured),
    ):
        if text:
            print_lines(*text.split("\n"))
    write_image(output, draw_comparison(sheet, measured))
    print_lines(f"Picture: {output}")


def _measure(
    pair: Pair, seed: int, per_photo: int, ranges: dict[str, Any], measured: Measured
) -> None:
    clear = at_working_size(pair.clear)
    measured.add("real", pair.group, measure_haze(pair.hazy, pair.clear))
    for further in range(per_photo):
        for kind, options in (("made", ranges), ("flat", {**ranges, "veil": FLAT})):
            haze = synthesize_haze(clear, seed_of(seed, further), **options)
            measured.add(kind, pair.group, measure_haze(_as_bytes(haze.hazy), clear))


def _as_bytes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(image * 255).astype(np.uint8)
