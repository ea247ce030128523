"""Records the settings and sources of a folder's results, so that other ones are not kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ktdn_plugin.dehaze.inputs import AnySource, StoreSource
from ktdn_plugin.dehaze.journal import Entry, Journal, Results
from ktdn_plugin.dehaze.outputs import Job
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import LOSSY, PHOTO_SUFFIXES
from ktdn_plugin.photos.writing import QUALITY
from ktdn_plugin.storage.atomic import digest_of
from ktdn_plugin.storage.file_kinds import check_regular
from ktdn_plugin.storage.journal import stamp_of
from ktdn_plugin.videos import DEFAULTS, SMOOTH, VideoOptions

_GLANCE = ("path", "stamp")
"""What tells without reading a file that it is still the same."""


class Record:
    """The output folder's record of its results' settings and sources.

    Each result's entry has ``checkpoint`` (its file name), ``sha256`` (the checkpoint's),
    ``precision``, ``strength`` unless it is 1, ``base_size`` unless it is ``auto``, for JPEG and
    WebP ``quality``, for videos ``codec`` and what else is not the default of
    :class:`~ktdn_plugin.videos.VideoOptions`, and ``source``: see :func:`describe_source`.

    Args:
        folder: The output folder; None if the output is a file, in which case nothing is recorded.
        checkpoint: The network's file.
        precision: The precision of the computation.
        quality: JPEG and WebP quality; the default if None.
        strength: How much of the network's change is applied.
        base_size: See :class:`~ktdn_plugin.Dehazer`.
        video: How videos are smoothed and compressed.

    Raises:
        KTDNError: If the checkpoint or the file cannot be read.
    """

    def __init__(
        self,
        folder: Path | None,
        checkpoint: Path,
        precision: str,
        quality: int | None,
        strength: float = 1.0,
        base_size: str = "auto",
        video: VideoOptions = DEFAULTS,
    ) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.precision = precision
        self.quality = QUALITY if quality is None else quality
        self.strength = strength
        self.base_size = base_size
        self.video = video
        self._digest = _digest(checkpoint)
        self._lock = threading.Lock()
        self._results = None if folder is None else Results(folder)
        self._journal = None if folder is None else Journal(folder)

    def check(self, there: Iterable[Job]) -> list[Job]:
        """Compares existing results with what would be made now.

        Returns:
            Those whose settings or source are not fully known.

        Raises:
            KTDNError: If one was made from another photo or video, or with other settings.
        """
        unknown = []
        jobs = list(there)
        is_hidden = None if jobs else True
        for job in tqdm(jobs, "Comparing", unit="photo", disable=is_hidden, leave=False):
            if not self._is_ours(job):
                unknown.append(job)
        return unknown

    def is_made_meanwhile(self, job: Job) -> bool:
        """Returns whether another process has made a result since this run began.

        Raises:
            KTDNError: If it was made from another photo or video, or with other settings.
        """
        if self._results is None or not job.output.is_file():
            return False
        self.refresh()
        return self._is_ours(job)

    def refresh(self) -> None:
        """Reads what processes have recorded since.

        Raises:
            KTDNError: If a file cannot be read or is broken.
        """
        if self._results is not None:
            with self._lock:
                self._results.refresh()

    def _is_ours(self, job: Job) -> bool:
        """Returns whether a result is known to be what would be made now; raises if it is not."""
        found = self._results.find(self._name(job)) if self._results else None
        if found is None:
            return False
        before = found.get("source")
        source = describe_source(job.source, before)
        is_known = _is_known(before, source)
        if is_known and without_path(found["source"]) != without_path(source):
            what = "video" if job.is_video else "photo"
            raise KTDNError(
                f"{job.output} was made from another {what} "
                f"({_shown(found['source'], source)}); use another -o, or --overwrite"
            )
        now = self._entry(job)
        for key, words in (
            ("sha256", f"another checkpoint ({found.get('checkpoint')})"),
            ("precision", f"--precision {found.get('precision')}"),
            ("strength", f"--strength {found.get('strength', 1)}"),
            ("base_size", f"--base-size {found.get('base_size', 'auto')}"),
            ("quality", f"--quality {found.get('quality')}"),
            ("codec", f"--codec {found['codec']}" if "codec" in found else "an earlier version"),
            ("crf", f"--crf {found.get('crf', 'of the default')}"),
            ("smooth", f"--smooth {found.get('smooth', SMOOTH):g}"),
        ):
            if found.get(key) != now.get(key):
                raise KTDNError(
                    f"{job.output}: is there already, made with {words}; --overwrite redoes "
                    "existing results, -o names another folder"
                )
        return is_known

    def add(self, job: Job, result: Path) -> None:
        """Records a result's settings and source.

        Args:
            job: The result's job.
            result: Its file, complete but not yet moved into place.

        Raises:
            KTDNError: If it cannot be written.
        """
        if self._journal is not None:
            entry = {**self._entry(job), "source": describe_source(job.source)}
            self._journal.append(self._name(job), entry, result)

    def add_figures(self, job: Job, clear: Entry, figures: Entry) -> None:
        """Records how close a result is to the ground truth.

        Args:
            job: The result's job.
            clear: What identifies the ground truth.
            figures: The figures.

        Raises:
            KTDNError: If it cannot be written.
        """
        if self._journal is not None:
            entry = {"clear": clear, "figures": figures}
            self._journal.append(self._name(job), entry, job.output)

    def figures(self, job: Job, clear: Entry) -> Entry | None:
        """Returns the recorded figures of a result against a ground truth, None if there are none.

        They are of this very source, since :meth:`check` refuses results of another one.
        """
        found = self._results.figures(self._name(job)) if self._results else None
        return found["figures"] if found is not None and found.get("clear") == clear else None

    def _name(self, job: Job) -> str:
        return (job.output.relative_to(self.folder) if self.folder else job.output).as_posix()

    def _entry(self, job: Job) -> Entry:
        entry: Entry = {
            "checkpoint": self.checkpoint.name,
            "sha256": self._digest,
            "precision": self.precision,
        }
        if self.strength != 1:
            entry["strength"] = self.strength
        if self.base_size != "auto":
            entry["base_size"] = self.base_size
        if PHOTO_SUFFIXES.get(job.output.suffix.lower()) in LOSSY:
            entry["quality"] = self.quality
        if job.is_video:
            entry["codec"] = self.video.codec
            if self.video.crf is not None:
                entry["crf"] = self.video.crf
            if self.video.smooth != SMOOTH:
                entry["smooth"] = self.video.smooth
        return entry

    def settings(self, job: Job) -> Entry:
        """Returns all that a result depends on, its source by a glance at it."""
        source = job.source
        known = None
        if not isinstance(source, StoreSource):
            with contextlib.suppress(OSError):
                known = [str(source.path.absolute()), *stamp_of(source.path)]
        return {**self._entry(job), "source": known}


def describe_source(source: AnySource, before: Any = None) -> dict[str, Any]:
    """Describes what a result is made from.

    Args:
        source: The source.
        before: An earlier description. If the file has the same path, size and time, its checksum
            is taken from there instead of reading the file.

    Returns:
        The absolute ``path``, and for a file its ``sha256``, None if it cannot be read, and its
        ``stamp``, size and time; for a store's image the store's ``fingerprint`` and the image's
        ``number``.
    """
    if isinstance(source, StoreSource):
        store = source.store
        path = str(Path(store.path).absolute())
        return {"path": path, "fingerprint": store.info.fingerprint, "number": source.number}
    found: dict[str, Any] = {"path": str(source.path.absolute()), "sha256": None}
    with contextlib.suppress(OSError):
        found["stamp"] = stamp_of(source.path)
        if isinstance(before, dict) and all(before.get(key) == found[key] for key in _GLANCE):
            return {**before}
        found["sha256"] = digest_of(source.path)
    return found


def without_path(source: dict[str, Any]) -> dict[str, Any]:
    """Returns what identifies a source regardless of its location and time."""
    return {key: value for key, value in source.items() if key not in _GLANCE}


def _is_known(*sources: Any) -> bool:
    return all(isinstance(one, dict) and None not in one.values() for one in sources)


def _shown(source: dict[str, Any], now: dict[str, Any]) -> str:
    """Names a result's source for an error message."""
    path = Path(str(source.get("path")))
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    number = f", image {source['number']}" if "number" in source else ""
    same = all(source.get(key) == now.get(key) for key in ("path", "number"))
    return f"{path}{number}{', which has changed since' if same else ''}"


def _digest(path: Path) -> str:
    check_regular(path)
    try:
        return digest_of(path)
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}; name a checkpoint's file") from error
