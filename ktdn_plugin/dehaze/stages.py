"""The stages of dehazing one photograph or video: reading, computing, writing and measuring."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ktdn_plugin.dehaze.compare import side_by_side
from ktdn_plugin.dehaze.inputs import FileSource
from ktdn_plugin.dehaze.outputs import Job
from ktdn_plugin.dehaze.record import Record
from ktdn_plugin.dehaze.table import Row
from ktdn_plugin.dehaze.truth import RGB8, Truth, read_clear
from ktdn_plugin.errors import KTDNError, TooLittleMemoryError
from ktdn_plugin.metrics import Measured, measure
from ktdn_plugin.photos import (
    PHOTO_SUFFIXES,
    Photo,
    check_size,
    not_kept,
    read_rgb,
    read_size,
    to_8_bit,
    write_photo,
    write_rgb,
)
from ktdn_plugin.pipeline import BYTES_PER_PIXEL, Task
from ktdn_plugin.videos import VideoOptions

Network = Callable[[Any], Any]


class JobTask(Task):
    """A job on its way.

    Attributes:
        job: The job.
        is_there: Whether its result is there already, and stays.
        photo: The hazy photograph, then the dehazed one, while it is needed.
        hazy: The hazy one's pixels, 8 bit, where it is to be compared.
        notes: What the result lacks.
        row: Its figures.
        unmeasured: Why it has none, though it should.
    """

    def __init__(self, job: Job, is_there: bool) -> None:
        super().__init__(0 if is_there or job.is_video else _cost(job))
        self.job = job
        self.is_there = is_there
        self.photo: Photo | None = None
        self.hazy: RGB8 | None = None
        self.notes: list[str] = []
        self.row: Row | None = None
        self.unmeasured: str | None = None


class Stages:
    """What is done with each task, by threads of a pipeline.

    Args:
        network: Dehazes an RGB image (h, w, 3), uint8 or uint16; None if all results are there.
        truth: The ground truth.
        record: Where results are recorded, if anywhere.
        quality: JPEG and WebP quality.
        compression: zlib's level of PNG and TIFF; by default what is fast.
        video: How videos are smoothed and compressed.
        overwrite: Redo existing results.

    Attributes:
        done: Number of results written.
        workers: See :func:`~ktdn_plugin.dehaze.video.dehaze_video`.
        room: Bytes that a video's frames may take on their way.
    """

    def __init__(
        self,
        network: Network | None,
        truth: Truth,
        record: Record | None,
        *,
        quality: int | None,
        compression: int | None,
        video: VideoOptions,
        overwrite: bool,
    ) -> None:
        self.network = network
        self.truth = truth
        self.record = record
        self.quality = quality
        self.compression = compression
        self.video = video
        self.workers = 0
        self.room: int | None = None
        self.overwrite = overwrite
        self.done = 0
        self._lock = threading.Lock()

    def read(self, task: JobTask) -> None:
        """Reads a photograph, unless another process has made its result meanwhile."""
        job = task.job
        if not task.is_there and not self.overwrite and self.record:
            task.is_there = self.record.is_made_meanwhile(job)
        if task.is_there or job.is_video:
            return
        task.photo = photo = job.source.read()
        check_size(job.output, *photo.pixels.shape[:2])  # before minutes are spent on it
        task.notes += photo.notes

    def compute(self, task: JobTask) -> None:
        """Dehazes a photograph, or a whole video."""
        job, photo = task.job, task.photo
        if isinstance(job.source, FileSource) and job.is_video and not task.is_there:
            task.notes += self._dehaze_video(job, job.source)
            self._count()
        if photo is None:
            return
        result = Photo(self._dehazed(job.source.label, photo.pixels), photo.alpha, photo.metadata)
        if job.compare or self.truth.is_of(job.source):
            task.hazy = to_8_bit(photo.pixels)
        task.photo = result

    def write(self, task: JobTask) -> None:
        """Writes a result; measures it as it is in its file, and draws it beside the input."""
        job = task.job
        if task.photo is not None:
            write_photo(
                job.output,
                task.photo,
                self.quality,
                compression=self.compression,
                before_move=self._recording(job),
            )
            kind = PHOTO_SUFFIXES[job.output.suffix.lower()]
            lost = not_kept(job.output, task.photo)
            task.notes += [f"{kind} has no room for {what}" for what in lost]
            task.photo = None
            self._count()
        if not job.is_video:
            self._show(task)
        task.hazy = None

    def _dehaze_video(self, job: Job, source: FileSource) -> list[str]:
        # Loads PyAV, which photographs do not need.
        from ktdn_plugin.dehaze.video import dehaze_video

        return dehaze_video(
            source.path,
            job.output,
            partial(self._dehazed, source.label),
            self.video,
            settings=self.record.settings(job) if self.record else None,
            workers=self.workers,
            devices=getattr(self.network, "size", 1),
            room=self.room,
            before_move=self._recording(job),
        )

    def _count(self) -> None:
        with self._lock:
            self.done += 1

    def _recording(self, job: Job) -> Callable[[Any], None] | None:
        """Returns a function that records a result, given its file before it moves into place."""
        record = self.record
        return None if record is None else lambda written: record.add(job, written)

    def _dehazed(self, label: str, pixels: Any) -> Any:
        assert self.network is not None  # otherwise there is nothing to do
        try:
            return self.network(pixels)
        except KTDNError as error:  # such as too little memory for its size
            is_memory = isinstance(error, TooLittleMemoryError)
            kind = TooLittleMemoryError if is_memory else KTDNError
            raise kind(f"{label}: {error}") from error

    def _show(self, task: JobTask) -> None:
        job = task.job
        wants_picture = job.compare and not (task.is_there and job.compare.exists())
        is_measured = self.truth.is_of(job.source)
        if is_measured and not wants_picture and task.is_there:
            task.row = self._recall(job)
            if task.row is not None:
                return
        if not wants_picture and not is_measured:
            return
        hazy = to_8_bit(job.source.read().pixels) if task.hazy is None else task.hazy
        dehazed = read_rgb(job.output)
        if dehazed.shape != hazy.shape:
            raise KTDNError(
                f"{job.output}: is not the size of {job.source.label}; --overwrite does it again"
            )
        columns = [("hazy", hazy), ("dehazed", dehazed)]
        try:
            clear = self._measure(task, hazy, dehazed)
        except KTDNError as error:
            task.unmeasured = str(error)
        else:
            columns += [("clear", clear)] if clear is not None else []
        if wants_picture and job.compare:
            write_rgb(job.compare, side_by_side(columns))

    def is_measured(self, job: Job) -> bool:
        """Returns whether a result is to be measured."""
        return self.truth.is_of(job.source)

    def recall(self, jobs: Iterable[Job]) -> dict[Job, Row]:
        """Returns the recorded figures of results, also those of other processes, by now."""
        if self.record is not None:
            self.record.refresh()
        rows = ((job, self._recall(job)) for job in jobs)
        return {job: row for job, row in rows if row is not None}

    def _recall(self, job: Job) -> Row | None:
        """Returns the recorded figures of a result and its ground truth, if there are any."""
        try:
            clear = self.truth.clear_of(job.source)
        except KTDNError:
            return None
        identity = None if clear is None else clear.identify()
        if self.record is None or clear is None or identity is None:
            return None
        figures = self.record.figures(job, identity)
        if figures is None:
            return None
        before, after = (Measured(*figures[key]) for key in ("hazy", "dehazed"))
        return Row(clear.split, _row_name(job), before, after)

    def _measure(self, task: JobTask, hazy: RGB8, dehazed: RGB8) -> RGB8 | None:
        job = task.job
        clear = self.truth.clear_of(job.source)
        if clear is None:
            return None
        pixels = read_clear(clear, hazy.shape, job.source.label)
        try:
            before, after = measure(hazy, pixels), measure(dehazed, pixels)
        except ValueError as error:
            raise KTDNError(f"{job.source.label}: {error}") from error
        task.row = Row(clear.split, _row_name(job), before, after)
        identity = clear.identify()
        if self.record is not None and identity is not None:
            self.record.add_figures(job, identity, {"hazy": before, "dehazed": after})
        return pixels


def _row_name(job: Job) -> str:
    return job.source.name.with_suffix("").as_posix()


def _cost(job: Job) -> int:
    """Returns about how many bytes a photograph takes while it is read, waits and is written."""
    source = job.source
    try:
        if isinstance(source, FileSource):
            height, width = read_size(source.path)
            # A file of 16 bit is larger; its copies in memory are, too.
            return max(BYTES_PER_PIXEL * height * width, 4 * source.path.stat().st_size)
        height, width = source.store.size("hazy", source.number)
    except (KTDNError, OSError):  # reading it says why
        return 0
    return BYTES_PER_PIXEL * height * width
