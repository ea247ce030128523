"""Photographs of a report: hazy, dehazed, clear and difference, with the figures of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.metrics import SSIM_WINDOW, measure
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.report.contents import Contents, Results
from ktdn_plugin.report.embedding import Embedded, difference, embed
from ktdn_plugin.report.scenes import Photograph, Read
from ktdn_plugin.report.tables import Row, Table
from ktdn_plugin.scenes.names import Names

RGB8 = NDArray[np.uint8]
Kind = Literal["hazy", "result", "clear", "difference"]

MEASURED = "measured here on the full-size images, RGB"


class Layer(NamedTuple):
    """One of the images that can be compared."""

    kind: Kind
    label: str
    image: Embedded


class Line(NamedTuple):
    """Figures of one of the images.

    Attributes:
        label: Which of the images.
        figures: By metric.
        source: The file that they are out of, or ``MEASURED``.
        method: Whose result it is; empty for the hazy image.
        is_validation: Whether it is a picture of a training's validation.
    """

    label: str
    figures: dict[str, float]
    source: str
    method: str = ""
    is_validation: bool = False


@dataclass
class Photo:
    """A photograph as it is shown.

    Attributes:
        name: What it is called.
        split: The split it is of; empty where that is not known.
        layers: Its images.
        lines: Figures of its images.
        notes: What is missing of it.
        is_reconstructed: Whether it was made of the clear image, by a teacher.
    """

    name: str
    split: str
    is_reconstructed: bool = False
    layers: list[Layer] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def compared_at_first(self) -> tuple[int, int]:
        """The two layers that are compared at first: what was given, and what was made of it."""
        kinds = [layer.kind for layer in self.layers]
        right = kinds.index("result")
        left = kinds.index("hazy") if "hazy" in kinds else None
        if left is None and "clear" in kinds:
            # What was made lies on the left, as before it would hazy: the clear one is the end.
            clear = kinds.index("clear")
            return (clear, right) if clear < right else (right, clear)
        return (right, right) if left is None else (left, right)

    @property
    def sources(self) -> str:
        """Where the figures are from; each source once."""
        sources: dict[str, list[str]] = {}
        for line in self.lines:
            sources.setdefault(line.source, []).append(line.label)
        if len(sources) == 1:
            return next(iter(sources))
        return "; ".join(f"{', '.join(labels)}: {source}" for source, labels in sources.items())


class PhotoSources(NamedTuple):
    """A photograph that is to be shown: its scene, and the results that are of it."""

    name: str
    split: str
    scenes: list[Photograph]
    results: list[tuple[Results, str]]

    @property
    def is_reconstructed(self) -> bool:
        """Whether its results are of the clear image itself."""
        return any(scene.is_reconstructed for scene in self.scenes)


def list_photos(contents: Contents) -> list[PhotoSources]:
    """Finds which results are of one photograph; reconstructed ones come last."""
    wanted: dict[object, PhotoSources] = {}
    for results in contents.results:
        for key in results.images:
            found = [(one.split, scene) for one in results.scenes if (scene := one.find(key))]
            scenes = [scene for _, scene in found]
            split = next((split for split, _ in found if split), "")
            if scenes:
                identity: object = (scenes[0].identity, scenes[0].is_reconstructed)
            else:
                identity = (results.set_name, key)
            name = scenes[0].name if scenes else key
            photo = wanted.setdefault(identity, PhotoSources(name, split, scenes, []))
            photo.results.append((results, key))
    return sorted(wanted.values(), key=lambda photo: photo.is_reconstructed)


def make_photo(wanted: PhotoSources, free_tables: Sequence[Table], max_width: int) -> Photo:
    """Reads a photograph's images, measures what no table tells, and prepares them for a page.

    Args:
        wanted: The photograph.
        free_tables: Tables that may have figures of any result.
        max_width: Widest that its images become.

    Raises:
        KTDNError: One of its images cannot be read.
    """
    photo = Photo(wanted.name, wanted.split, wanted.is_reconstructed)
    hazy = None if photo.is_reconstructed else _read(one.hazy for one in wanted.scenes)
    clear = _read(one.clear for one in wanted.scenes)
    several = len(wanted.results) > 1
    images = [read_rgb(results.images[key]) for results, key in wanted.results]
    rows = [_find_rows(*one, free_tables) for one in wanted.results]
    photo.split = photo.split or next((row.split for hits in rows for _, row in hits), "")
    if hazy is not None:
        photo.layers.append(Layer("hazy", "hazy", embed(hazy, max_width)))
        known = next((hit for hits in rows for hit in hits if hit[1].hazy), None)
        figures = _figures(known and (known[0], known[1].hazy), hazy, clear)
        photo.lines += [Line("hazy", *figures)] if figures else []
    differences = []
    for (results, _), image, hits in zip(wanted.results, images, rows, strict=True):
        made = "reconstructed" if photo.is_reconstructed else "dehazed"
        label = _label(results) if several else made
        photo.layers.append(Layer("result", label, embed(image, max_width)))
        known = next((hit for hit in hits if hit[1].figures), None)
        figures = _figures(known and (known[0], known[1].figures), image, clear)
        if figures:
            validated = results.iteration is not None
            photo.lines.append(Line(label, *figures, results.method, validated))
        if clear is not None and clear.shape == image.shape:
            name = f"difference, {label}" if several else "difference"
            shown = embed(difference(image, clear), max_width)
            differences.append(Layer("difference", name, shown))
        elif clear is not None:
            photo.notes.append(
                f"{label} is {_size(image)} and clear {_size(clear)}: no difference or metrics are "
                "shown"
            )
    if clear is not None:
        layer = Layer("clear", "clear", embed(clear, max_width))
        photo.layers.insert(0 if photo.is_reconstructed else len(photo.layers), layer)
    elif not photo.is_reconstructed:
        unmeasured = "" if photo.lines else ", and no metrics"
        photo.notes.append(f"no clear image: no difference{unmeasured}")
    if hazy is None and not photo.is_reconstructed:
        photo.notes.append("no hazy image")
    photo.layers += differences
    return photo


def _read(readers: Iterable[Read | None]) -> RGB8 | None:
    """Takes an image from the first that has it: what the user has named comes first."""
    images = (read() for read in readers if read is not None)
    return next((image for image in images if image is not None), None)


def _label(results: Results) -> str:
    return results.method + (f" @ {results.iteration}" if results.iteration is not None else "")


def _size(image: RGB8) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _figures(
    known: tuple[Path, dict[str, float]] | None, image: RGB8, clear: RGB8 | None
) -> tuple[dict[str, float], str] | None:
    """Returns an image's figures and where they are from: a table before all else."""
    if known:
        # Enough of the path to find it, and no more: pages are shown to others.
        return known[1], f"{known[0].resolve().parent.name}/{known[0].name}"
    if clear is None or clear.shape != image.shape or min(image.shape[:2]) < SSIM_WINDOW:
        return None
    return measure(image, clear)._asdict(), MEASURED


def _find_rows(results: Results, key: str, free_tables: Sequence[Table]) -> list[tuple[Path, Row]]:
    """Finds what tables say of a result: its folder's ones first."""
    found = list(_rows_of(results, key, results.tables, ""))
    if results.iteration is None:
        found += _rows_of(results, key, free_tables, results.method)
    return found


def _rows_of(
    results: Results, key: str, tables: Sequence[Table], method: str
) -> Iterator[tuple[Path, Row]]:
    for table in tables:
        rows = [row for row in table.rows if row.image]
        if any(row.set == results.set_name for row in rows):
            rows = [row for row in rows if row.set == results.set_name]
        methods = dict.fromkeys(row.method for row in rows if row.method)
        if len(methods) > 1 or (methods and method):
            name = Names(methods).find(results.method)
            rows = [row for row in rows if row.method == name or not row.method]
        image = Names(row.image for row in rows).find(key)
        yield from ((table.path, row) for row in rows if row.image == image)
