"""What results of a folder were made with, so that those of another checkpoint are not kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.checkpoints import write_whole
from ktdn_plugin.dehaze.outputs import Job
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import PHOTO_SUFFIXES
from ktdn_plugin.photos.writing import QUALITY

RECORD = ".ktdn-dehaze.json"
LOSSY = ("JPEG", "WEBP")
_CHUNK = 1 << 20


class Record:
    """The file in which the output folder says what its results were made with.

    Args:
        folder: The output folder; None where the output is a file, beside which none is left.
        checkpoint: The network's file.
        precision: Of the computation.
        quality: Of JPEG and WebP; the usual one where absent.

    Raises:
        KTDNError: If the checkpoint or the file cannot be read.
    """

    def __init__(
        self, folder: Path | None, checkpoint: Path, precision: str, quality: int | None
    ) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.precision = precision
        self.quality = QUALITY if quality is None else quality
        self._digest = _digest(checkpoint)
        self._results = {} if folder is None else _read(folder / RECORD)
        self._is_begun = False
        self._replaced: set[str] = set()

    def check(self, there: Iterable[Job]) -> list[Job]:
        """Compares results that are there with what is to be made now.

        Returns:
            Those of which nothing is known.

        Raises:
            KTDNError: If one was made with something else.
        """
        unknown = []
        for job in there:
            found = self._results.get(self._name(job))
            if found is None:
                unknown.append(job)
                continue
            now = self._entry(job)
            for key, words in (
                ("sha256", f"another checkpoint ({found.get('checkpoint')})"),
                ("precision", f"--precision {found.get('precision')}"),
                ("quality", f"--quality {found.get('quality')}"),
            ):
                if found.get(key) != now.get(key):
                    raise KTDNError(
                        f"{job.output}: is there already, made with {words}; --overwrite does "
                        "results anew, -o names another folder"
                    )
        return unknown

    def begin(self, jobs: Sequence[Job], kept: Collection[Job], first: Job) -> None:
        """Notes, once the first result is written, what it and the others are made with.

        Args:
            jobs: All results.
            kept: Those that were there, and are not to be replaced.
            first: The one that is written.
        """
        if self.folder is None or self._is_begun:
            return
        for job in jobs:
            if job in kept:
                continue
            self._results.pop(self._name(job), None)
            if job != first and job.output.exists():
                self._replaced.add(self._name(job))  # nothing is known of it until it is done
            else:
                self._results[self._name(job)] = self._entry(job)
        self._write()
        self._is_begun = True

    def end(self, done: Iterable[Job]) -> None:
        """Notes what the results that have replaced others were made with."""
        replaced = [job for job in done if self.folder and self._name(job) in self._replaced]
        self._results |= {self._name(job): self._entry(job) for job in replaced}
        if replaced:
            # On a full disk they stay results of which nothing is known, which is said later.
            with contextlib.suppress(KTDNError):
                self._write()

    def _name(self, job: Job) -> str:
        return (job.output.relative_to(self.folder) if self.folder else job.output).as_posix()

    def _entry(self, job: Job) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "checkpoint": self.checkpoint.name,
            "sha256": self._digest,
            "precision": self.precision,
        }
        if PHOTO_SUFFIXES.get(job.output.suffix.lower()) in LOSSY:
            entry["quality"] = self.quality
        return entry

    def _write(self) -> None:
        assert self.folder is not None
        text = json.dumps({"results": self._results}, indent=0)
        write_whole(self.folder / RECORD, lambda file: file.write(text.encode()))


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        if not all(isinstance(entry, dict) for entry in results.values()):
            raise TypeError("no entries")
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        return {}  # which is told of where it is to be written
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KTDNError(
            f"{path}: broken; remove it, and what is in its folder counts as made by anything"
        ) from error
    return dict(results)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        raise KTDNError(f"{path}: no such checkpoint file") from None
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}; name a checkpoint's file") from error
    return digest.hexdigest()
