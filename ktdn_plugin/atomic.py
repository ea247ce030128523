"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ktdn_plugin.errors import KTDNError


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file whole or not at all.

    Args:
        path: The file.
        write: Writes the content to a file that is open for it.

    Raises:
        KTDNError: If it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    # torch reports a full disk as a RuntimeError of its own.
    except (OSError, RuntimeError) as error:
        if _is_interrupted(error):
            raise KeyboardInterrupt from error
        # An OSError's own text names the temporary file.
        reason = getattr(error, "strerror", None) or error
        raise KTDNError(
            f"{path}: cannot be saved ({reason}); free some space or choose another folder"
        ) from error
    finally:
        # Where the folder is none, or is closed to us, looking for the file fails as well.
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_interrupted(error: BaseException | None) -> bool:
    """Tells an error that only followed from Ctrl-C: torch's writer closes its half-made file."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _flush_folder(folder: Path) -> None:
    """Makes a renaming survive a power cut; not every system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
