"""Keeps earlier runs that are in the way of a new one."""

from __future__ import annotations

import time
from pathlib import Path

from ktdn_plugin.storage.atomic import delete_leftovers


def archive_run(folder: Path) -> Path:
    """Renames a folder after the time, and removes half-written files of killed processes.

    Returns:
        Its new place.
    """
    for place in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
        delete_leftovers(place)
    stamp = f"{folder.name}_archived_{time.strftime('%Y%m%d_%H%M%S')}"
    target, number = folder.with_name(stamp), 1
    while target.exists():  # two runs within a second
        number += 1
        target = folder.with_name(f"{stamp}_{number}")
    folder.rename(target)
    return target
