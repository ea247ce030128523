"""Earlier runs in the way of a new one: they are kept."""

from __future__ import annotations

import time
from pathlib import Path


def keep_aside(folder: Path) -> Path:
    """Renames a folder after the time, and gives its new place."""
    stamp = f"{folder.name}_archived_{time.strftime('%Y%m%d_%H%M%S')}"
    target, number = folder.with_name(stamp), 1
    while target.exists():  # two runs within a second
        number += 1
        target = folder.with_name(f"{stamp}_{number}")
    folder.rename(target)
    return target
