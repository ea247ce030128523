"""Dehazing many photographs: one bad file does not stop the rest."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ktdn_plugin.console import print_lines
from ktdn_plugin.dehaze.inputs import DEFAULT_LIMITS, find_sources
from ktdn_plugin.dehaze.outputs import Job, Plan, check_apart, check_places, is_one_file, plan
from ktdn_plugin.dehaze.record import Record
from ktdn_plugin.dehaze.stages import JobTask, Network, Stages
from ktdn_plugin.dehaze.table import Row, format_table, with_means, write_table
from ktdn_plugin.dehaze.truth import Truth
from ktdn_plugin.errors import KTDNError, SeveralErrors, TooLittleMemoryError
from ktdn_plugin.photos import LOSSY, PHOTO_SUFFIXES, ReadLimits
from ktdn_plugin.pipeline import SHARE, Pipeline, usable_cores
from ktdn_plugin.scenes.problems import some
from ktdn_plugin.shards import Shard
from ktdn_plugin.system_memory import available
from ktdn_plugin.videos import DEFAULTS, VideoOptions, require_av

OUTPUT = Path("dehazed")
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next file would fail too


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
    video: VideoOptions = DEFAULTS,
    overwrite: bool = False,
    stop_at_errors: bool = False,
    workers: int | None = None,
    shard: Shard | None = None,
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
        video: How videos are smoothed and compressed.
        overwrite: Redo existing results.
        stop_at_errors: Raise the first error instead of continuing with the other files.
        workers: Threads that read and write photographs while the network computes; 0 does one
            thing after another. Defaults to the number of CPU cores.
        shard: This process's share of the photographs; all by default. The process that finds all
            shares measured writes the table of all.
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
    if workers is not None and workers < 0:
        raise KTDNError(f"--workers {workers}: must be 0 or more")
    output = OUTPUT if output is None else output
    check_apart(inputs, output)
    one_file = is_one_file(inputs, output)
    sources, videos = find_sources(inputs, output, limits)
    truth = Truth(ground_truth, split, sources)
    truth.check_any()
    planned = plan(truth.sources, output, one_file=one_file, form=form, compare=compare)
    jobs = planned.jobs
    all_jobs = jobs
    if shard is not None:
        if one_file:
            raise KTDNError(f"--shard {shard}: is of a folder of results; -o names a file")
        jobs = [job for job in jobs if shard.holds(job.source.name)]
        print_lines(f"Share {shard}: {len(jobs)} of {len(all_jobs)} photos")
        planned = planned._replace(jobs=jobs)
    if planned.clashes and (stop_at_errors or not all_jobs):
        raise SeveralErrors(planned.clashes)
    _check_options(all_jobs, form, quality, video)
    check_places(all_jobs, output, truth.files)
    record = None
    if checkpoint is not None:
        folder = None if one_file else output
        record = Record(folder, checkpoint, precision, quality, strength, base_size, video)
    run = _Run(
        planned,
        load,
        truth,
        record,
        quality=quality,
        video=video,
        overwrite=overwrite,
        workers=workers,
    )
    if truth.left:
        count = len(truth.left)
        several = "s are" if count > 1 else " is"
        them = "they are" if count > 1 else "it is"
        note = f"{count} clear image{several} left as {them}"
        run.notes[note] += [source.label for source in truth.left]
    if videos:
        run.notes["videos in folders are left out; name them to dehaze them"] += map(str, videos)
    if shard is not None and shard.local:
        run.hides_progress = True  # bars of several processes would overwrite one another
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
    if shard is not None:
        run.gather(all_jobs)
    table = output.with_name(f"{output.stem}_metrics.csv") if one_file else output / "metrics.csv"
    run.report(output, table)


def _check_options(
    jobs: Sequence[Job], form: str | None, quality: int | None, video: VideoOptions
) -> None:
    """Refuses options that would affect no result, and videos where PyAV is missing."""
    videos = [job.source.label for job in jobs if job.is_video]
    if videos:
        require_av(videos[0])
    elif given := video.given():
        raise KTDNError(f"{given[0]}: is of videos, and here are photos alone; leave it out")
    if form and all(job.is_video for job in jobs):
        raise KTDNError(
            f"--format {form}: is of photos, and here are videos alone; -o NAME.mkv, for "
            "instance, names a video's format"
        )
    lossy = (PHOTO_SUFFIXES.get(job.output.suffix.lower()) in LOSSY for job in jobs)
    if quality is not None and not any(lossy):
        raise KTDNError(
            f"--quality {quality}: no result is a JPEG or WebP; --format jpg makes them so, --crf "
            "is the quality of videos, or leave it out"
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
        video: VideoOptions,
        overwrite: bool,
        workers: int | None,
    ) -> None:
        self.planned = planned
        self.jobs = jobs = planned.jobs
        self.there = {job for job in jobs if not overwrite and job.output.is_file()}
        self.notes: dict[str, list[str]] = defaultdict(list)
        there = [job for job in jobs if job in self.there]
        self.unknown = [str(job.output) for job in record.check(there)] if record else []
        network = load() if len(self.there) < len(jobs) else None
        self.stages = Stages(
            network, truth, record, quality=quality, video=video, overwrite=overwrite
        )
        self.network: Any = network
        self.workers = usable_cores() if workers is None else workers
        self.skipped = 0
        self.rows: dict[Job, Row] = {}
        self.failed: list[str] = []
        self.unmeasured: list[str] = []
        self.hides_progress = self.is_hopeless = False
        self.table_jobs = jobs

    @property
    def done(self) -> int:
        """Number of results written."""
        return self.stages.done

    def work(self, stop_at_errors: bool) -> None:
        """Runs all jobs; one that needs all the memory runs alone, after the others."""
        several = len(self.jobs) > 1 or any(job.is_video for job in self.jobs)
        hides = True if self.hides_progress else None
        with tqdm(
            total=len(self.jobs), desc="Dehazing", unit="photo", disable=hides, leave=False
        ) as bar:
            workers = self.workers if several else 0
            alone = list(self._work(self.jobs, workers, bar, stop_at_errors))
            if not self.is_hopeless:
                list(self._work(alone, 0, bar, stop_at_errors))
        for line in getattr(self.network, "lost", ()):
            self.notes[f"{line}; its photos went to the other devices"] = []

    def _work(
        self, jobs: Sequence[Job], workers: int, bar: Any, stop_at_errors: bool
    ) -> Iterator[Job]:
        """Runs jobs; yields those that do not fit into memory beside others."""
        devices = getattr(self.network, "size", 1)
        # A network on the CPU shares the memory with the photographs on their way.
        share = getattr(self.network, "share_memory", None)
        share = share(SHARE if workers else 0) if share else None
        room = (SHARE * (available() or 2**33)) if share is None else share
        stages = self.stages
        stages.workers, stages.room = workers, int(room)
        tasks = (JobTask(job, job in self.there) for job in jobs)
        with Pipeline(workers, devices, int(room) if workers else None) as pipeline:
            for task in pipeline.run(tasks, stages.read, stages.compute, stages.write):
                if workers and share and isinstance(task.error, TooLittleMemoryError):
                    yield task.job
                    continue
                bar.update()
                if task.error is None:
                    self._note(task)
                elif stop_at_errors or not isinstance(task.error, Exception):
                    raise task.error
                elif self._fail(task.job, task.error):
                    self.is_hopeless = True
                    break

    def _note(self, task: JobTask) -> None:
        """Takes down what a finished task has come to."""
        for note in task.notes:
            self.notes[note].append(task.job.source.label)
        if task.row is not None:
            self.rows[task.job] = task.row
        if task.unmeasured is not None:
            self.unmeasured.append(task.unmeasured)
        self.skipped += task.is_there

    def _fail(self, job: Job, error: BaseException) -> bool:
        """Takes down why a job failed; returns whether the next one would, too."""
        if isinstance(error, KTDNError):
            self.failed.append(str(error))
        else:  # whatever a library raised on this file, the others may be fine
            text = " ".join(str(error).split())
            what = f"{type(error).__name__}: {text}; --debug shows where"
            self.failed.append(f"{job.source.label}: {what}")
        return getattr(error.__cause__, "errno", None) in _HOPELESS

    def gather(self, jobs: Sequence[Job]) -> None:
        """Takes the figures of all shares from the record, or none if some are missing.

        Args:
            jobs: The jobs of all shares.
        """
        measured = [job for job in jobs if not job.is_video and self.stages.is_measured(job)]
        if not measured:
            return
        rows = self.stages.recall(measured)
        self.rows = rows if len(rows) == len(measured) else {}
        if not self.rows:
            self.notes[
                f"{len(rows)} of {len(measured)} photos are measured so far; the table is written "
                "when all are, or by the same command without --shard"
            ] = []
        self.table_jobs = list(jobs)

    def report(self, output: Path, table: Path) -> None:
        """Prints a summary, and writes the table.

        Raises:
            KTDNError: If some could not be dehazed or measured, with one line for each.
        """
        count = len(self.jobs) + self.planned.left_out
        rows = with_means([self.rows[job] for job in self.table_jobs if job in self.rows])
        if rows:
            write_table(table, rows)
        if self.unknown:  # before the table, which measures them as if they were this run's
            note = "made earlier, perhaps by another checkpoint or from another photo"
            print_lines(f"{note}: {some(self.unknown)}")
        if rows:
            print_lines(*format_table(rows))
            print_lines(f"Table: {table}")
        for note, labels in self.notes.items():
            print_lines(f"{note}: {some(labels)}" if labels else note)
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
            if failures and count > 1:
                lines.append(f"{len(failures)} of {count} could not be {what}:")
            lines += failures
        tried = self.done + self.skipped + len(self.failed) + self.planned.left_out
        if tried < count:
            lines.append(f"{count - tried} were not tried; the same command goes on with them")
        if lines:
            raise SeveralErrors(lines)
