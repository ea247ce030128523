"""One photograph between other programs: ``-`` is standard input and standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ktdn_plugin.console import print_lines
from ktdn_plugin.dehaze.outputs import FORMATS, is_one_file, suffix_for
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import (
    LOSSY,
    PHOTO_SUFFIXES,
    Photo,
    ReadLimits,
    check_compression,
    check_size,
    decode_photo,
    encode_photo,
    not_kept,
    read_file,
    write_photo,
)
from ktdn_plugin.photos.formats import kind_of
from ktdn_plugin.scenes.image_files import VIDEO_SUFFIXES
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.storage.writable import check_writable

PIPE = Path("-")
INPUT, _OUTPUT = "standard input", "standard output"


def is_pipe(inputs: Sequence[Path], output: Path | None) -> bool:
    """Returns whether something is read from standard input or written to standard output."""
    return PIPE in inputs or output == PIPE


def dehaze_pipe(
    inputs: Sequence[Path],
    output: Path | None,
    load: Callable[[], Callable[[Any], Any]],
    *,
    limits: ReadLimits,
    form: str | None = None,
    quality: int | None = None,
    compression: int | None = None,
    overwrite: bool = False,
    compare: bool = False,
    ground_truth: Path | None = None,
    split: str | None = None,
    stop_at_errors: bool = False,
) -> None:
    """Dehazes one photograph from standard input, to standard output, or both.

    All messages go to standard error. The rest is as with
    :func:`~ktdn_plugin.dehaze.run.dehaze_all`.

    Args:
        inputs: ``-``, or one photograph.
        output: ``-``, or the result's file.
        load: Returns a function that dehazes an RGB image (h, w, 3), uint8 or uint16.
        limits: How large the photograph may be.
        form: ``png``, ``jpg``, ``webp`` or ``tiff``; by default the file's, or the photograph's.
        quality: JPEG and WebP quality, 1 to 100.
        compression: zlib's level of PNG and TIFF, 0 to 9; by default what is fast.
        overwrite: Replace the result's file where it exists.
        compare: Refused: there is one result.
        ground_truth: Refused, too.
        split: Refused, too.
        stop_at_errors: Changes nothing: there is one photograph.

    Raises:
        KTDNError: If options do not go with a pipe, or the photograph cannot be read, dehazed or
            written.
    """
    del stop_at_errors
    _check_options(inputs, output, compare, ground_truth, split, quality)
    check_compression(compression, "--compression")
    assert output is not None  # which has been refused
    source, is_to_file = inputs[0], output != PIPE
    if is_to_file:
        _check_file(inputs, output, form, overwrite)
    stream = None if is_to_file else binary_output()
    # What libraries print must not get into the photograph.
    with contextlib.redirect_stdout(sys.stderr):
        name = INPUT if source == PIPE else str(source)
        content = _read_input() if source == PIPE else read_file(source)
        photo = decode_photo(content, name, limits)
        suffix = FORMATS[form] if form else suffix_for(kind_of(content))
        path = output if is_to_file else Path(f"{_OUTPUT}{suffix}")
        kind = PHOTO_SUFFIXES[path.suffix.lower()]
        if quality is not None and kind not in LOSSY:
            raise KTDNError(
                f"--quality {quality}: {kind} loses nothing, and has none; leave it out"
            )
        if compression is not None and kind in LOSSY:
            raise KTDNError(
                f"--compression {compression}: is of PNG and TIFF, and the result is a {kind}; "
                "leave it out"
            )
        del content
        check_size(path, *photo.pixels.shape[:2])  # before minutes are spent on it
        try:
            pixels = load()(photo.pixels)
        except KTDNError as error:
            raise KTDNError(f"{name}: {error}") from error
        result = Photo(pixels, photo.alpha, photo.metadata)
        lost = [f"{kind} has no room for {what}" for what in not_kept(path, result)]
        print_lines(*(f"{name}: {note}" for note in photo.notes + lost))
        if stream is None:
            write_photo(output, result, quality, compression=compression)
            print_lines(f"Dehazed: {output}")
        else:
            write_output(stream, encode_photo(path, result, quality, compression=compression))


def _check_options(
    inputs: Sequence[Path],
    output: Path | None,
    compare: bool,
    ground_truth: Path | None,
    split: str | None,
    quality: int | None,
) -> None:
    """Refuses what does not go with a pipe."""
    if len(inputs) > 1:
        raise KTDNError("-: a pipe takes one photo; give it alone, or files and a folder with -o")
    if output is None:
        raise KTDNError("-: needs the result's place: -o FILE, or -o - for standard output")
    given = {"--compare": compare, "--gt": ground_truth, "--split": split}
    for flag, value in given.items():
        if value:
            raise KTDNError(
                f"{flag}: not with a pipe, which has one result; give files and a folder"
            )
    if quality is not None and not 1 <= quality <= 100:
        raise KTDNError(f"--quality must be 1 to 100, got {quality}")
    source = inputs[0]
    if source != PIPE and (source.is_dir() or is_lmdb(source)):
        raise KTDNError(f"{source}: a folder, and -o - takes one photo; give a folder with -o")
    if source.suffix.lower() in VIDEO_SUFFIXES:
        raise KTDNError(f"{source}: a video, and -o - takes one photo; give a file with -o")


def _check_file(inputs: Sequence[Path], output: Path, form: str | None, overwrite: bool) -> None:
    if not is_one_file(inputs, output):
        raise KTDNError(
            f"-o {output}: a folder, and what comes by a pipe has no name; give the result's file"
        )
    if form and PHOTO_SUFFIXES[output.suffix.lower()] != PHOTO_SUFFIXES[FORMATS[form]]:
        raise KTDNError(f"-o {output}: does not match --format {form}; remove one of them")
    if output.exists() and not overwrite:
        raise KTDNError(f"-o {output}: is there already; --overwrite replaces it")
    check_writable(output.parent, f"-o {output.parent}")


def _read_input() -> bytes:
    """Reads all of standard input."""
    stream = binary_input("a photo", "cat hazy.jpg | ktdn dehaze - -o clear.jpg")
    content = stream.read()
    if not content:
        raise KTDNError(
            f"{INPUT}: empty (0 bytes); the program that pipes into it has written nothing"
        )
    return content


def binary_input(what: str, example: str) -> BinaryIO:
    """Returns standard input, for bytes.

    Args:
        what: What is to come from it.
        example: A command that pipes it.

    Raises:
        KTDNError: If it is a terminal.
    """
    stream: Any = sys.stdin
    if stream is None or stream.isatty():
        raise KTDNError(f"-: standard input is a terminal; pipe {what} into it: {example}")
    found: BinaryIO = stream.buffer
    return found


def binary_output() -> BinaryIO:
    """Returns standard output, for bytes; raises KTDNError if it is a terminal."""
    stream: Any = sys.stdout
    if stream is None or stream.isatty():
        raise KTDNError(
            "-o -: standard output is a terminal; redirect it: ktdn dehaze hazy.jpg -o - > x.jpg"
        )
    found: BinaryIO = stream.buffer
    return found


def write_output(stream: BinaryIO, content: memoryview) -> None:
    """Writes to standard output; raises KTDNError if the program that reads it has ended."""
    try:
        stream.write(content)
        stream.flush()
    except BrokenPipeError as error:
        # Or Python would try again, and complain, as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise KTDNError(
            f"{_OUTPUT}: the program that reads from it has ended before it had all"
        ) from error
