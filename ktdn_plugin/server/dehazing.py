"""What the network's thread does with a photograph."""

from __future__ import annotations

import secrets
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

import cv2
from pydantic import BaseModel, ConfigDict, Field

from ktdn_plugin.dehaze.outputs import FORMATS
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.inference.base import STRONGEST
from ktdn_plugin.photos import (
    LOSSY,
    PHOTO_SUFFIXES,
    READ_SUFFIXES,
    Photo,
    check_size,
    decode_photo,
    encode_lossy,
    not_kept,
    read_file,
    read_size,
    to_8_bit,
    write_photo,
)
from ktdn_plugin.photos.formats import kind_of
from ktdn_plugin.photos.photo import Metadata
from ktdn_plugin.server.limits import Limits

PREVIEW = 1600
"""Longer side of what the page shows."""
THUMBNAIL = 240


class Wanted(BaseModel):
    """How a photograph is dehazed and written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: Annotated[
        float,
        Field(
            ge=0,
            le=STRONGEST,
            allow_inf_nan=False,
            description="How much of the network's change to apply. 0.7 leaves some of the haze, "
            "more than 1 exaggerates.",
        ),
    ] = 1.0
    format: Annotated[
        Literal["png", "jpg", "webp", "tiff"] | None,
        Field(description="Format to write; by default the photograph's own, else PNG."),
    ] = None
    quality: Annotated[
        int | None, Field(ge=1, le=100, description="Quality of JPEG and WebP; 95 by default.")
    ] = None


class Source(NamedTuple):
    """An uploaded file.

    Attributes:
        path: Where it is.
        name: What to call it.
        kind: Its format, by its content.
        height: Of the photograph, turned upright.
        width: Of the photograph, turned upright.
    """

    path: Path
    name: PurePosixPath
    kind: str
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.height * self.width


class Result(NamedTuple):
    """A result's file.

    Attributes:
        path: Where it is.
        name: What to call it.
        notes: What could not be kept, one line each.
    """

    path: Path
    name: PurePosixPath
    notes: list[str]


class Looks(NamedTuple):
    """What the page shows of a photograph; its files are beside the source.

    Attributes:
        notes: What could not be taken over, one line each.
    """

    notes: list[str]


class UnsupportedError(KTDNError):
    """A file of a format that is not read."""


class TooManyPixelsError(KTDNError):
    """A photograph of more pixels than are taken."""


def look_at(path: Path, name: PurePosixPath, limits: Limits) -> Source:
    """Reads an uploaded file's header.

    Raises:
        UnsupportedError: If it is no photograph, or of a format that is not read.
        TooManyPixelsError: If it has too many pixels.
        KTDNError: If it is damaged.
    """
    with path.open("rb") as file:
        kind = kind_of(file.read(1024))
    try:
        height, width = read_size(path)
    except KTDNError as error:
        line = f"{name}: {str(error).removeprefix(f'{path}: ')}"
        is_known = kind in READ_SUFFIXES.values()
        raise (KTDNError if is_known else UnsupportedError)(line) from error
    if height * width > limits.pixels:
        raise TooManyPixelsError(
            f"{name}: has {height * width / 1e6:.1f} megapixels; this server takes at most "
            f"{limits.pixels / 1e6:g}"
        )
    return Source(path, name, kind or "", height, width)


def result_name(source: Source, wanted: Wanted) -> PurePosixPath:
    """Returns what a result is called, whose suffix is its format.

    Raises:
        KTDNError: If a quality is wanted of a format that has none.
    """
    own = source.name.suffix
    if wanted.format is not None:
        suffix = FORMATS[wanted.format]
    elif PHOTO_SUFFIXES.get(own.lower()) == source.kind:
        suffix = own.lower()
    else:
        suffix = next((s for s, kind in PHOTO_SUFFIXES.items() if kind == source.kind), ".png")
    if wanted.quality is not None and PHOTO_SUFFIXES[suffix] not in LOSSY:
        raise KTDNError(
            f"quality: the result is a {PHOTO_SUFFIXES[suffix]}, which loses nothing; leave it "
            "out, or set format to jpg or webp"
        )
    stem = source.name.stem if own.lower() in READ_SUFFIXES else source.name.name
    return source.name.with_name(f"{stem}_dehazed{suffix}")


class Worker:
    """Dehazes uploaded photographs; for one thread.

    Args:
        dehazer: The network.
    """

    def __init__(self, dehazer: Dehazer) -> None:
        self._dehazer = dehazer

    def result(self, source: Source, wanted: Wanted, name: PurePosixPath) -> Result:
        """Dehazes a photograph at full size and writes it beside the source.

        Args:
            source: The photograph.
            wanted: How.
            name: See :func:`result_name`.
        """
        photo, dehazed = self._dehaze(source, wanted.strength)
        return self._write(source, wanted, name, photo, dehazed)

    def looks(self, source: Source, wanted: Wanted, name: PurePosixPath) -> tuple[Looks, Result]:
        """Dehazes a photograph and draws what the page shows: before, after and a thumbnail.

        Args:
            source: The photograph.
            wanted: How.
            name: See :func:`result_name`.
        """
        photo, dehazed = self._dehaze(source, wanted.strength)
        folder = source.path.parent
        for file, pixels, longer in (
            ("before", photo.pixels, PREVIEW),
            ("after", dehazed.pixels, PREVIEW),
            ("thumbnail", dehazed.pixels, THUMBNAIL),
        ):
            height, width = pixels.shape[:2]
            share = min(1, longer / max(height, width))
            size = max(round(width * share), 1), max(round(height * share), 1)
            small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if share < 1 else pixels
            look = Photo(to_8_bit(small), metadata=Metadata(icc=photo.metadata.icc))
            (folder / file).write_bytes(
                encode_lossy(look, "JPEG", 85 if longer == THUMBNAIL else 95)
            )
        made = self._write(source, wanted, name, photo, dehazed)
        return Looks(made.notes), made

    def _dehaze(self, source: Source, strength: float) -> tuple[Photo, Photo]:
        photo = decode_photo(read_file(source.path), str(source.name))
        self._dehazer.strength = strength
        try:
            pixels = self._dehazer(photo.pixels)
        except KTDNError as error:
            raise KTDNError(f"{source.name}: {error}") from error
        return photo, Photo(pixels, photo.alpha, photo.metadata)

    def _write(
        self, source: Source, wanted: Wanted, name: PurePosixPath, photo: Photo, dehazed: Photo
    ) -> Result:
        path = source.path.parent / f"{secrets.token_hex(8)}{name.suffix}"
        check_size(Path(name.name), *photo.pixels.shape[:2])
        write_photo(path, dehazed, wanted.quality)
        kind = PHOTO_SUFFIXES[name.suffix]
        lost = [f"{kind} has no room for {what}" for what in not_kept(path, dehazed)]
        return Result(path, name, [*photo.notes, *lost])
