"""Keeps earlier runs that are in the way of a new one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def archived_inputs(folder: Path, inputs: Mapping[str, Any], remedy: str) -> list[str]:
    """Returns a line for each file a new run reads that lies in the earlier run to be renamed.

    Args:
        folder: The earlier run's folder.
        inputs: The files, or None, by the key that names them.
        remedy: What to do about it, for the end of the line.
    """
    return [
        f"{key}: {path} lies in the folder of this very run, which is moved out of the way when "
        f"it starts over; {remedy}"
        for key, path in inputs.items()
        if path and folder.absolute() in (Path(path).absolute(), *Path(path).absolute().parents)
    ]
