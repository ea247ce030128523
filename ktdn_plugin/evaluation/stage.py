"""Whether a checkpoint is meant for dehazing."""

from __future__ import annotations

from pathlib import Path

from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.metadata import stage_of
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError


def warn_if_teacher(path: Path) -> None:
    """Warns on stderr that a checkpoint is a teacher's.

    Args:
        path: The checkpoint. Of one that cannot be read, nothing is said: whatever loads it does.
    """
    try:
        metadata = Checkpoint.read(path, without_numbers=True).metadata
    except KTDNError:
        return
    if stage_of(metadata) == "teacher":
        print_lines(
            f"warning: {path} is a teacher, which only reconstructs clear images; use the "
            "student trained with it",
            to_stderr=True,
        )
