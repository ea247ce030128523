"""Tables of figures as the commands write them: one row for an image, or for a set of images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ktdn_plugin.csv_files import CSVLine, parse_csv
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.metrics import TITLES, UNNAMED_SPLIT
from ktdn_plugin.scenes.image_files import SUFFIXES
from ktdn_plugin.scenes.names import key_of

NAMES = ("image", "photo", "name", "file", "filename", "path")
METHODS = ("method", "model", "results")
SPLITS = ("split",)
SETS = ("set", "dataset")
COUNTS = ("images", "photos", "count")
MEANS = {"mean", "average", "all"}
# Figures of the images that methods were given, and of what came out.
STAGES = ("hazy", "dehazed")
METRICS = tuple(TITLES)
# Columns that are no figures, though numbers may stand in them.
_OTHERS = {"fingerprint", "checkpoint", "width", "height", "size", "iter", "epoch", "seed"}
_OTHERS |= {"seconds", "megapixels", "number"}
_NOTHING = ("-", "n/a")
_INPUT = {"hazy", "input", "hazy (input)"}  # what stands for a method where nothing was done


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        image: The image's key; empty where the row is of a set of images.
        method: Who made it; empty where the table does not say.
        set: The set's name, or empty.
        split: The split's name, or empty.
        images: Number of images that the figures are the means of, where it is known.
        figures: What was measured of the result, by the metric's name.
        hazy: What was measured of the hazy image.
    """

    image: str
    method: str
    set: str
    split: str
    images: int | None
    figures: dict[str, float]
    hazy: dict[str, float]


@dataclass(frozen=True)
class Table:
    """A table, and the file that it is in."""

    path: Path
    rows: list[Row]


def read_table(path: Path) -> Table:
    """Reads a table of figures.

    Columns are known by their names, in any order: ``image`` (or ``photo``, ``name``, ``file``),
    ``method``, ``set``, ``split``, ``images``, and figures: ``psnr``, ``ssim`` and others, of the
    result; ``dehazed_psnr`` is the same, ``hazy_psnr`` of what was dehazed, and so are those of a
    method that is called ``hazy``. Any other column is of figures if nothing but numbers is in it.

    Raises:
        KTDNError: It cannot be read, is not a table of figures, or a figure in it is not a number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise KTDNError(f"{path}: not a text file; write the table again") from error
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    try:
        lines = parse_csv(text)
        header = [name.strip() for name in next(lines, CSVLine(1, [])).cells]
        columns = {name.lower(): number for number, name in enumerate(header)}
        if not any(_parted(name)[1].startswith(METRICS) for name in columns):
            near = [*METRICS, *(f"{stage}_{metric}" for stage in STAGES for metric in METRICS)]
            hints = (did_you_mean(name, near) for name in header)
            hint = next((hint for hint in hints if hint), "")
            raise KTDNError(f"{path}: not a table of metrics (no column psnr or ssim){hint}")
        cells = [line for line in lines if any(cell.strip() for cell in line.cells)]
    except csv.Error as error:
        raise KTDNError(f"{path}: broken CSV ({error}); write the table again") from error
    if not cells:
        raise KTDNError(f"{path}: a table without rows; write it again")
    for number, line in cells:
        if len(line) != len(header):
            raise KTDNError(
                f"{path}, line {number}: {len(line)} cells for {len(header)} columns; write the "
                "table again"
            )
    figures = {
        name: place
        for name, place in columns.items()
        if _parted(name)[1].startswith(METRICS)
        or _holds_figures(name, [c[place] for _, c in cells])
    }
    return Table(path, [_row(path, number, line, columns, figures) for number, line in cells])


def _parted(column: str) -> tuple[str, str]:
    """Parts a column's name into what is measured, and by which metric."""
    stage, _, metric = column.partition("_")
    return (stage, metric) if stage in STAGES and metric else ("dehazed", column)


def _holds_figures(column: str, cells: Sequence[str]) -> bool:
    if column in (*NAMES, *METHODS, *SPLITS, *SETS, *COUNTS, *_OTHERS):
        return False
    filled = [cell.strip() for cell in cells if cell.strip() not in ("", *_NOTHING)]
    return bool(filled) and all(_number(cell) is not None for cell in filled)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _row(
    path: Path, number: int, line: list[str], columns: dict[str, int], figures: dict[str, int]
) -> Row:

    def cell(names: tuple[str, ...]) -> str:
        return next((line[columns[name]].strip() for name in names if name in columns), "")

    found: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for column, place in figures.items():
        text = line[place].strip()
        if text in ("", *_NOTHING):
            continue
        value = _number(text)
        if value is None:
            raise KTDNError(
                f"{path}, line {number}: {column} is {text!r}, not a number; write the table again"
            )
        stage, metric = _parted(column)
        found[stage][metric] = value
    image, count, method, split = cell(NAMES), cell(COUNTS), cell(METHODS), cell(SPLITS)
    if method.lower() in _INPUT:
        method, found = "", {"hazy": found["dehazed"] or found["hazy"], "dehazed": {}}
    is_mean = image.lower() in MEANS
    return Row(
        "" if is_mean or not image else _key(image),
        method,
        cell(SETS),
        "" if split == UNNAMED_SPLIT else split,
        int(count) if count.isdecimal() else None,
        found["dehazed"],
        found["hazy"],
    )


def _key(image: str) -> str:
    # A name with a dot in it need not have a suffix.
    path = Path(image.replace("\\", "/"))
    return key_of(path) if path.suffix.lower() in SUFFIXES else path.as_posix()
