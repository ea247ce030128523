"""Writing files and folders whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ktdn_plugin.errors import KTDNError

# Short whatever the file's own name: the machine, the process, and a number of its own.
_TEMPORARY = re.compile(r"\.ktdn-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.\w+")
_DAY = 24 * 60 * 60  # seconds
_cleared: set[Path] = set()


def write_whole(
    path: str | Path,
    write: Callable[[BinaryIO], Any],
    *,
    before_move: Callable[[Path], Any] | None = None,
) -> None:
    """Writes a file whole or not at all.

    Args:
        path: The file.
        write: Writes the content to a file that is open for it.
        before_move: Called with the temporary file, when all is in it and before it takes the
            place of ``path``; what it raises keeps the file from being written.

    Raises:
        KTDNError: If it cannot be written.
    """
    path = Path(path)
    try:
        with temporary_beside(path) as temporary:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if before_move is not None:
                before_move(temporary)
            temporary.replace(path)
        _flush_folder(path.parent)
    # torch reports a full disk as a RuntimeError of its own.
    except (OSError, RuntimeError) as error:
        if _is_interrupted(error):
            raise KeyboardInterrupt from error
        # An OSError's own text names the temporary file.
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            advice = "give it a shorter name"
        else:
            advice = "free some space or choose another folder"
        raise KTDNError(f"{path}: cannot be saved ({reason}); {advice}") from error


def make_folder(folder: Path) -> None:
    """Makes the folder of a file that is to be written, where it is missing.

    Raises:
        KTDNError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KTDNError(
            f"{folder}: cannot be created ({error.strerror or error}); choose another folder"
        ) from error


def write_folder_whole(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Writes a folder whole or not at all.

    Args:
        folder: The folder; nothing but an empty one may be there. Its parents are made.
        fill: Writes what it is to hold to another folder, which is empty and moves there.

    Raises:
        OSError: If it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(folder) as temporary:
        temporary.mkdir()
        fill(temporary)
        if folder.is_dir():  # an empty one; Windows renames onto nothing that exists
            folder.rmdir()
        temporary.rename(folder)


@contextlib.contextmanager
def temporary_beside(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Finds a name for a temporary file or folder in the folder of a file.

    What is there under it in the end is deleted, and so is what processes that were killed have
    left in that folder.

    Args:
        path: The file.
        suffix: Of the temporary one, for writers that go by it.
    """
    if path.parent not in _cleared:
        _cleared.add(path.parent)
        delete_leftovers(path.parent)
    name = f".ktdn-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
    finally:
        _delete(temporary)


def delete_leftovers(folder: Path) -> None:
    """Deletes the temporary files in a folder whose processes are gone.

    Those of other machines, which may share the folder, count as gone after a day.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None:
                continue
            is_here = found["machine"] == _machine()
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age > _DAY or (is_here and not _is_alive(int(found["process"]))):
                _delete(Path(entry.path))


def digest_of(path: Path) -> str:
    """Returns a file's SHA-256; raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _machine() -> str:
    """Names this machine; of containers each, since they number their processes by themselves."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (is a link to no path)
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where os.kill ends a process; its open files cannot be deleted anyway
        return process == os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _delete(path: Path) -> None:
    # Where the folder is none, or is closed to us, looking for the file fails as well.
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _is_interrupted(error: BaseException | None) -> bool:
    """Returns whether an error only followed Ctrl-C: torch's writer closes its half-made file."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _flush_folder(folder: Path) -> None:
    """Makes a rename survive a power cut; not every system allows flushing a folder."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
