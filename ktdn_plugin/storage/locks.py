"""Locks that end with the process that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ktdn_plugin.errors import KTDNError


def lock_file(path: Path, name: Path) -> Any:
    """Creates a file and locks it against other processes until it is closed.

    Args:
        path: The file.
        name: What it stands for.

    Returns:
        The open file; None on Windows, where nothing is locked.

    Raises:
        KTDNError: If another process has locked it.
        OSError: If it cannot be created.
    """
    try:
        import fcntl
    except ImportError:
        return None
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise KTDNError(f"{name}: another process is writing it right now") from error
    return file
