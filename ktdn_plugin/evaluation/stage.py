"""Whether a checkpoint is one to dehaze with."""

from __future__ import annotations

from pathlib import Path

from ktdn_plugin.checkpoints.metadata import find_metadata, stage_of
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.safe_loading import load_tensors


def warn_if_teacher(path: Path) -> None:
    """Warns on stderr that a checkpoint is a teacher's.

    Args:
        path: The checkpoint. Of one that cannot be read, nothing is said: whatever loads it does.
    """
    try:
        metadata = find_metadata(load_tensors(path, without_numbers=True), path)
    except KTDNError:
        return
    if stage_of(metadata) == "teacher":
        print_lines(
            f"warning: {path} is a teacher, which reconstructs clear images; the student of its "
            "training dehazes",
            to_stderr=True,
        )
