"""Dehazing many photographs: one bad file does not stop the rest."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ktdn_plugin.console import print_lines
from ktdn_plugin.dehaze.compare import side_by_side
from ktdn_plugin.dehaze.inputs import DEFAULT_LIMITS, FileSource, find_sources
from ktdn_plugin.dehaze.outputs import Job, Plan, check_apart, check_places, is_one_file, plan
from ktdn_plugin.dehaze.record import Record
from ktdn_plugin.dehaze.table import Row, format_table, with_means, write_table
from ktdn_plugin.dehaze.truth import RGB8, Truth, read_clear
from ktdn_plugin.dehaze.video import dehaze_video
from ktdn_plugin.errors import KTDNError, SeveralErrors
from ktdn_plugin.metrics import measure
from ktdn_plugin.photos import (
    LOSSY,
    PHOTO_SUFFIXES,
    Photo,
    ReadLimits,
    check_size,
    not_kept,
    read_rgb,
    to_8_bit,
    write_photo,
    write_rgb,
)
from ktdn_plugin.scenes.problems import some

OUTPUT = Path("dehazed")
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next file would fail too

Network = Callable[[Any], Any]


def dehaze_all(
    inputs: Sequence[Path],
    output: Path | None,
    load: Callable[[], Network],
    *,
    checkpoint: Path | None = None,
    precision: str = "float32",
    strength: float = 1.0,
    base_size: str = "auto",
    ground_truth: Path | None = None,
    split: str | None = None,
    compare: bool = False,
    form: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    stop_at_errors: bool = False,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> None:
    """Dehazes photographs and videos, resuming an earlier run, and reports the results.

    Existing results are skipped, as they are always complete. Those of another checkpoint or
    another photo are refused, see :mod:`ktdn_plugin.dehaze.record`. Photographs keep their bit
    depth, alpha and metadata, see :mod:`ktdn_plugin.photos`.

    Args:
        inputs: Photographs, videos, folders (searched recursively, keeping their structure), and
            stores, whose hazy images are dehazed.
        output: Folder to write to, or for a single input the result's file; ``dehazed`` by default.
        load: Returns a function that dehazes an RGB image (h, w, 3), uint8 or uint16; called only
            if there is anything to do.
        checkpoint: The file of the network that ``load`` returns; None keeps no record.
        precision: That network's precision.
        strength: That network's strength.
        base_size: That network's base size.
        ground_truth: Folder or store of clear images, matched to the hazy ones by name; PSNR and
            SSIM of hazy and dehazed photographs are printed and written to ``metrics.csv``. Without
            it, stores are measured against their own clear images.
        split: Name of the photographs' split; stores know theirs.
        compare: Write ``NAME_compare.png`` too: hazy, dehazed, and clear, at full size.
        form: ``png``, ``jpg``, ``webp`` or ``tiff``; by default each photograph's own format.
        quality: JPEG and WebP quality, 1 to 100.
        overwrite: Redo existing results.
        stop_at_errors: Raise the first error instead of continuing with the other files.
        limits: How large a photograph may be.

    Raises:
        KTDNError: If an input is missing, or existing results were made with other settings or from
            another source, or results would replace inputs or one another or cannot be written; and
            at the end, if some could not be dehazed or measured, with one line for each.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise KTDNError(f"--quality must be 1 to 100, got {quality}")
    if quality is not None and form in ("png", "tiff"):
        raise KTDNError(f"--quality: {form} loses nothing, and has none; leave it out")
    output = OUTPUT if output is None else output
    check_apart(inputs, output)
    one_file = is_one_file(inputs, output)
    sources, videos = find_sources(inputs, output, limits)
    truth = Truth(ground_truth, split, sources)
    truth.check_any()
    planned = plan(truth.sources, output, one_file=one_file, form=form, compare=compare)
    jobs = planned.jobs
    if planned.clashes and (stop_at_errors or not jobs):
        raise SeveralErrors(planned.clashes)
    _check_options(jobs, form, quality)
    check_places(jobs, output, truth.files)
    record = None
    if checkpoint is not None:
        folder = None if one_file else output
        record = Record(folder, checkpoint, precision, quality, strength, base_size)
    run = _Run(planned, load, truth, record, quality=quality, overwrite=overwrite)
    if truth.left:
        count = len(truth.left)
        several = "s are" if count > 1 else " is"
        them = "they are" if count > 1 else "it is"
        note = f"{count} clear image{several} left as {them}"
        run.notes[note] += [source.label for source in truth.left]
    if videos:
        run.notes["videos in folders are left out; name them to dehaze them"] += map(str, videos)
    moving = [job.source.label for job in jobs if job.is_video]
    if moving and (compare or ground_truth):
        run.notes["videos are neither compared nor measured"] += moving
    try:
        run.work(stop_at_errors)
    except KeyboardInterrupt:
        again = "the same command without --overwrite" if overwrite else "the same command"
        left = f"{run.done + run.skipped} of {len(jobs)} are done; {again} goes on with the others."
        print_lines(left, to_stderr=True)
        raise
    table = output.with_name(f"{output.stem}_metrics.csv") if one_file else output / "metrics.csv"
    run.report(output, table)


def _check_options(jobs: Sequence[Job], form: str | None, quality: int | None) -> None:
    """Refuses options that would affect no result."""
    if form and all(job.is_video for job in jobs):
        raise KTDNError(
            f"--format {form}: is of photos, and here are videos alone; -o NAME.mkv, for "
            "instance, names a video's format"
        )
    lossy = (PHOTO_SUFFIXES.get(job.output.suffix.lower()) in LOSSY for job in jobs)
    if quality is not None and not any(lossy):
        raise KTDNError(
            f"--quality {quality}: no result is a JPEG or WebP; --format jpg makes them so, or "
            "leave it out"
        )


class _Run:
    """The work, and what to report about it at the end."""

    def __init__(
        self,
        planned: Plan,
        load: Callable[[], Network],
        truth: Truth,
        record: Record | None,
        *,
        quality: int | None,
        overwrite: bool,
    ) -> None:
        self.planned = planned
        self.jobs = jobs = planned.jobs
        self.truth = truth
        self.record = record
        self.quality = quality
        self.there = {job for job in jobs if not overwrite and job.output.is_file()}
        self.notes: dict[str, list[str]] = defaultdict(list)
        there = [job for job in jobs if job in self.there]
        self.unknown = [str(job.output) for job in record.check(there)] if record else []
        self.network = load() if len(self.there) < len(jobs) else None
        self.done = self.skipped = 0
        self.rows: list[Row] = []
        self.failed: list[str] = []
        self.unmeasured: list[str] = []

    def work(self, stop_at_errors: bool) -> None:
        """Runs all jobs in sequence."""
        for job in tqdm(self.jobs, "Dehazing", unit="photo", disable=None, leave=False):
            try:
                self._do(job)
            except Exception as error:
                if stop_at_errors:
                    raise
                if isinstance(error, KTDNError):
                    self.failed.append(str(error))
                else:  # whatever a library raised on this file, the others may be fine
                    text = " ".join(str(error).split())
                    what = f"{type(error).__name__}: {text}; --debug shows where"
                    self.failed.append(f"{job.source.label}: {what}")
                if getattr(error.__cause__, "errno", None) in _HOPELESS:
                    break

    def _do(self, job: Job) -> None:
        if job in self.there:
            hazy = None
        elif isinstance(job.source, FileSource) and job.source.is_video:
            label = job.source.label
            dehazed = partial(self._dehazed, label)
            note = dehaze_video(job.source.path, job.output, dehazed, self._recording(job))
            self.notes[note].append(label)
            hazy = None
        else:
            hazy = self._do_photo(job)
        if not job.is_video:
            self._show(job, hazy)
        if job in self.there:
            self.skipped += 1
        else:
            self.done += 1

    def _recording(self, job: Job) -> Callable[[Path], None] | None:
        """Returns a function that records a result, given its file before it moves into place."""
        record = self.record
        return None if record is None else lambda written: record.add(job, written)

    def _dehazed(self, label: str, pixels: Any) -> Any:
        assert self.network is not None  # otherwise there is nothing to do
        try:
            return self.network(pixels)
        except KTDNError as error:  # such as too little memory for its size
            raise KTDNError(f"{label}: {error}") from error

    def _do_photo(self, job: Job) -> RGB8 | None:
        """Dehazes a photograph; returns the hazy one if it is still needed."""
        photo = job.source.read()
        check_size(job.output, *photo.pixels.shape[:2])  # before minutes are spent on it
        result = Photo(self._dehazed(job.source.label, photo.pixels), photo.alpha, photo.metadata)
        write_photo(job.output, result, self.quality, before_move=self._recording(job))
        for note in photo.notes:
            self.notes[note].append(job.source.label)
        for what in not_kept(job.output, result):
            kind = PHOTO_SUFFIXES[job.output.suffix.lower()]
            self.notes[f"{kind} has no room for {what}"].append(job.source.label)
        return to_8_bit(photo.pixels) if job.compare or self.truth.is_of(job.source) else None

    def _show(self, job: Job, hazy: RGB8 | None) -> None:
        """Measures a result as it is in its file, and draws it beside the input."""
        wants_picture = job.compare and not (job in self.there and job.compare.exists())
        if not wants_picture and not self.truth.is_of(job.source):
            return
        hazy = to_8_bit(job.source.read().pixels) if hazy is None else hazy
        dehazed = read_rgb(job.output)
        if dehazed.shape != hazy.shape:
            raise KTDNError(
                f"{job.output}: is not the size of {job.source.label}; --overwrite does it again"
            )
        columns = [("hazy", hazy), ("dehazed", dehazed)]
        try:
            clear = self._measure(job, hazy, dehazed)
        except KTDNError as error:
            self.unmeasured.append(str(error))
        else:
            columns += [("clear", clear)] if clear is not None else []
        if wants_picture and job.compare:
            write_rgb(job.compare, side_by_side(columns))

    def _measure(self, job: Job, hazy: RGB8, dehazed: RGB8) -> RGB8 | None:
        clear = self.truth.clear_of(job.source)
        if clear is None:
            return None
        pixels = read_clear(clear, hazy.shape, job.source.label)
        try:
            before, after = measure(hazy, pixels), measure(dehazed, pixels)
        except ValueError as error:
            raise KTDNError(f"{job.source.label}: {error}") from error
        name = job.source.name.with_suffix("").as_posix()
        self.rows.append(Row(clear.split, name, before, after))
        return pixels

    def report(self, output: Path, table: Path) -> None:
        """Prints a summary, and writes the table.

        Raises:
            KTDNError: If some could not be dehazed or measured, with one line for each.
        """
        count = len(self.jobs) + self.planned.left_out
        rows = with_means(self.rows)
        if rows:
            write_table(table, rows)
        if self.unknown:  # before the table, which measures them as if they were this run's
            note = "made earlier, perhaps by another checkpoint or from another photo"
            print_lines(f"{note}: {some(self.unknown)}")
        if rows:
            print_lines(*format_table(rows))
            print_lines(f"Table: {table}")
        for note, labels in self.notes.items():
            print_lines(f"{note}: {some(labels)}")
        if self.skipped:
            them = "does it again" if self.skipped == 1 else "does them again"
            were = "was" if self.skipped == 1 else "were"
            print_lines(f"{self.skipped} of {count} {were} there already; --overwrite {them}")
        if self.done:
            print_lines(f"Dehazed: {output}" + (f" ({self.done} of {count})" if count > 1 else ""))
        lines = []
        if self.planned.clashes:
            what = "results would have one name"
            lines += [f"{self.planned.left_out} of {count} are left out, whose {what}:"]
            lines += self.planned.clashes
        for failures, what in ((self.failed, "dehazed"), (self.unmeasured, "measured")):
            if failures:
                lines += [f"{len(failures)} of {count} could not be {what}:", *failures]
        tried = self.done + self.skipped + len(self.failed) + self.planned.left_out
        if tried < count:
            lines.append(f"{count - tried} were not tried; the same command goes on with them")
        if lines:
            raise SeveralErrors(lines)
