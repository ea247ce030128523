"""Plans where the results of all inputs go, and refuses bad plans before writing anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.dehaze.inputs import AnySource, FileSource, identity
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import OTHER_SUFFIXES, PHOTO_SUFFIXES, READ_SUFFIXES
from ktdn_plugin.scenes.image_files import VIDEO_SUFFIXES
from ktdn_plugin.scenes.names import COMPARE
from ktdn_plugin.storage.writable import check_writable
from ktdn_plugin.videos import WRITTEN_SUFFIXES

FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif"}
"""Values of ``--format``, and their suffixes."""

# Nobody names a folder like this.
_FILE_SUFFIXES = frozenset((*READ_SUFFIXES, *OTHER_SUFFIXES, *VIDEO_SUFFIXES, ".pdf"))


@dataclass(frozen=True)
class Job:
    """What to dehaze, and where the result goes.

    Attributes:
        source: What to dehaze.
        output: The result's file.
        compare: The file that shows it beside the input, None if none is wanted.
    """

    source: AnySource
    output: Path
    compare: Path | None

    @property
    def is_video(self) -> bool:
        """Whether it is a video."""
        return isinstance(self.source, FileSource) and self.source.is_video


class Plan(NamedTuple):
    """What is written where.

    Attributes:
        jobs: What to do.
        clashes: One line for each path that several results would be written to.
        left_out: The number of clashing jobs; none of them is in ``jobs``.
    """

    jobs: list[Job]
    clashes: list[str]
    left_out: int


def is_one_file(inputs: Sequence[Path], output: Path) -> bool:
    """Returns whether the output names a single result's file, not a folder.

    Args:
        inputs: What to dehaze.
        output: Where the results go.

    Raises:
        KTDNError: If it names a file, and there may be several results, or its format cannot be
            written.
    """
    suffix = output.suffix.lower()
    if output.is_dir() or (suffix not in _FILE_SUFFIXES and not output.is_file()):
        return False
    if len(inputs) > 1 or inputs[0].is_dir():
        raise KTDNError(f"-o {output}: is a file name; give a folder for several results")
    written = WRITTEN_SUFFIXES if inputs[0].suffix.lower() in VIDEO_SUFFIXES else PHOTO_SUFFIXES
    if suffix not in written:
        what = "a video is" if written is WRITTEN_SUFFIXES else "photos are"
        raise KTDNError(
            f"-o {output}: {what} written as {', '.join(written)}; use one of these suffixes"
        )
    return True


def check_apart(inputs: Sequence[Path], output: Path) -> None:
    """Refuses to write results into an input folder, whatever their names.

    Raises:
        KTDNError: If the output is an input folder, directly or through a link.
    """
    for path in inputs:
        if path.is_dir() and output.is_dir() and path.samefile(output):
            raise KTDNError(f"-o {output}: is the input folder; choose another one")


def plan(
    sources: Sequence[AnySource],
    output: Path,
    *,
    one_file: bool,
    form: str | None,
    compare: bool,
) -> Plan:
    """Plans what is written where.

    Args:
        sources: What to dehaze.
        output: The folder, or the single result's file.
        one_file: Whether ``output`` is that file.
        form: One of :data:`FORMATS`; by default each photograph's own format, or PNG for other
            formats and for stores.
        compare: Whether to draw a comparison of each photograph.

    Raises:
        KTDNError: If the format does not match the file's suffix.
    """
    if one_file and form:
        kind = PHOTO_SUFFIXES.get(
            output.suffix.lower()
        )  # None for a video, which --format does not apply to
        if kind not in (None, PHOTO_SUFFIXES[FORMATS[form]]):
            raise KTDNError(f"-o {output}: does not match --format {form}; remove one of them")
    jobs = []
    taken: defaultdict[str, list[Job]] = defaultdict(list)
    for source in dict.fromkeys(sources):  # each one once
        path = output if one_file else output / source.name.with_suffix(_suffix(source, form))
        job = Job(source, path, None)
        if compare and not job.is_video:
            job = Job(source, path, path.with_name(f"{path.stem}{COMPARE}.png"))
        jobs.append(job)
        for written in (job.output, job.compare):
            if (place := _folded(written)) is not None:
                taken[place].append(job)
    # There is no telling which one was meant, so none is done.
    clashes = {tuple(there): place for place, there in reversed(taken.items()) if len(there) > 1}
    left_out = {job for there in clashes for job in there}
    return Plan(
        [job for job in jobs if job not in left_out],
        [_clash(there, place) for there, place in reversed(clashes.items())],
        len(left_out),
    )


def _clash(there: Sequence[Job], place: str) -> str:
    written = next(path for path in (there[0].output, there[0].compare) if _folded(path) == place)
    first, *others = (job.source.label for job in there)
    return (
        f"{first} and {', '.join(others)} would {'both' if len(others) == 1 else 'all'} be written "
        f"to {written}; rename one, or dehaze them in separate runs with separate -o"
    )


def _folded(path: Path | None) -> str | None:
    """Returns a path as a case-insensitive file system sees it."""
    return None if path is None else str(path).casefold()


def _suffix(source: AnySource, form: str | None) -> str:
    own = source.name.suffix
    if isinstance(source, FileSource) and source.is_video:
        return own if own.lower() in WRITTEN_SUFFIXES else ".mp4"
    if form is None:
        # Stored images no longer have a format; compressing them again would cost quality.
        if not isinstance(source, FileSource):
            return ".png"
        if own.lower() in PHOTO_SUFFIXES:
            return own
        return suffix_for(READ_SUFFIXES.get(own.lower()))
    same = PHOTO_SUFFIXES.get(own.lower()) == PHOTO_SUFFIXES[FORMATS[form]]
    return own if same else FORMATS[form]


def suffix_for(kind: str | None) -> str:
    """Returns the suffix for results of photographs of a format, where it can be written or not.

    Formats that cameras compress photographs in, and that we do not write, become JPEG.
    """
    own = next((suffix for suffix, one in PHOTO_SUFFIXES.items() if one == kind), None)
    return own or (".jpg" if kind in ("HEIC", "AVIF", "JPEG XL") else ".png")


def check_places(jobs: Sequence[Job], output: Path, truths: Iterable[Path]) -> None:
    """Refuses to overwrite files that are read, and to write where that is impossible.

    Args:
        jobs: What is written where.
        output: The folder, or the single result's file.
        truths: Ground truth files.

    Raises:
        KTDNError: If a result would replace an input or the ground truth, even through a link, or
            the output is not writable.
    """
    if output.is_file() and [job.output for job in jobs] != [output]:
        raise KTDNError(f"-o {output}: is a file; give a folder")
    files = [job.source.path for job in jobs if isinstance(job.source, FileSource)]
    read = {identity(path): path for path in (*truths, *files)}
    for job in jobs:
        for written in (job.output, job.compare):
            there = identity(written) if written else None
            if there is not None and there in read:
                raise KTDNError(
                    f"{written}: the result would replace {read[there]}, which is read; choose "
                    "another place with -o"
                )
    folder = output.parent if output in (job.output for job in jobs) else output
    check_writable(folder, f"-o {folder}")
