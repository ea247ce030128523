"""``ktdn report``: curves, results and photographs of runs as one page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tqdm import tqdm

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.report.charts import draw_charts
from ktdn_plugin.report.contents import Contents, gather, parse_source
from ktdn_plugin.report.page import make_page
from ktdn_plugin.report.photos import Photo, list_photos, make_photo
from ktdn_plugin.report.scenes import photographs_of_flags
from ktdn_plugin.report.summary import summarize
from ktdn_plugin.storage.atomic import make_folder, write_whole
from ktdn_plugin.storage.writable import check_writable

MAX_WIDTH = 1200
MOST_PHOTOS = 24
LARGE = 25e6  # bytes; what mail and chat programs mostly refuse
SUFFIXES = (".html", ".htm")


def write_report(
    folders: Sequence[str | Path],
    output: Path,
    *,
    hazy: Path | None = None,
    clear: Path | None = None,
    title: str | None = None,
    max_width: int = MAX_WIDTH,
    photos: int = MOST_PHOTOS,
) -> None:
    """Writes a report.

    Args:
        folders: Folders of runs, results, a demo, images, and CSV files; ``NAME=FOLDER`` says what
            to call one.
        output: The page, ending in .html. Its folder is created if missing.
        hazy: Folder or store of the hazy images, where runs do not tell.
        clear: Folder or store of the clear ones.
        title: The page's title; the folders' names by default.
        max_width: Widest that images become, in pixels.
        photos: Most photographs that are shown.

    Raises:
        KTDNError: A folder is nothing that could be shown, a log or a table is broken, or the page
            cannot be written.
        ValueError: No folder is given.
    """
    if not folders:
        raise ValueError("a report needs at least one folder")
    _check_output(output)
    for flag, value, least in (("--max-width", max_width, 16), ("--photos", photos, 0)):
        if value < least:
            raise KTDNError(f"{flag} {value}: must be {least} or more")
    flagged = None if hazy is None and clear is None else photographs_of_flags(hazy, clear)
    given = [parse_source(str(folder)) for folder in folders]
    contents = gather(given, flagged)
    shown = _make_photos(contents, max_width, photos)
    contents.notes += _common_notes(shown)
    groups, charts = summarize(contents, shown), draw_charts(contents.runs)
    if not (shown or groups or charts):
        why = "".join(f"; {note}" for note in contents.notes)
        raise KTDNError(f"{given[0].path}: nothing to show{why}")
    page = make_page(
        title or ", ".join(name or path.resolve().name for name, path in given),
        shown,
        groups,
        charts,
        contents.notes,
        date.today(),
    ).encode()
    make_folder(output.parent)
    write_whole(output, lambda file: file.write(page))
    for note in contents.notes:
        print_lines(f"Not shown: {note}")
    print_lines(f"Report: {output} ({len(page) / 1e6:.1f} MB, {_counted(shown, contents)})")
    if len(page) > LARGE:
        print_lines(
            f"warning: {output} is large ({len(page) / 1e6:.0f} MB); --max-width {max_width // 2} "
            f"or --photos {max(1, len(shown) // 2)} makes it smaller",
            to_stderr=True,
        )


def _check_output(output: Path) -> None:
    """Refuses what cannot be written, before minutes go into what to write."""
    if output.suffix.lower() not in SUFFIXES:
        raise KTDNError(f"-o {output}: the report is written as .html; use that suffix")
    if output.is_dir():
        raise KTDNError(f"-o {output}: is a folder; give a file in it, such as report.html")
    check_writable(output.parent, f"-o {output}")


def _make_photos(contents: Contents, max_width: int, most: int) -> list[Photo]:
    wanted = list_photos(contents)
    if len(wanted) > most:
        contents.notes.append(
            f"{len(wanted) - most} of {len(wanted)} photographs; --photos {len(wanted)} shows all"
        )
    made = []
    for one in tqdm(wanted[:most], "Photographs", unit="photo", disable=None, leave=False):
        try:
            made.append(make_photo(one, contents.free_tables, max_width))
        except KTDNError as error:
            contents.notes.append(f"{one.name}: skipped ({error})")
    return made


def _common_notes(photos: Sequence[Photo]) -> list[str]:
    """Takes out what is missing of photographs, to be said once where it is so of many."""
    counts = Counter(note for photo in photos for note in photo.notes)
    for photo in photos:
        photo.notes[:] = [note for note in photo.notes if counts[note] == 1]
    names = {note: photo.name for photo in photos for note in photo.notes}
    return [
        f"{names[note] if count == 1 else f'{count} photographs'}: {note}"
        for note, count in counts.items()
    ]


def _counted(photos: Sequence[Photo], contents: Contents) -> str:
    counts = ((len(contents.runs), "run"), (len(photos), "photograph"))
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
