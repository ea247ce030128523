"""A run's work directory: its newest intact checkpoint, and an earlier run in the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError, SeveralErrors
from ktdn_plugin.storage.earlier_runs import archive_run, archived_inputs
from ktdn_plugin.training import distributed


def find_checkpoint(work_dir: Path) -> Path | None:
    """Finds the newest checkpoint that can be read; damaged ones are skipped and reported."""
    numbered = [
        (int(match[1]), path)
        for path in work_dir.glob("*.pth")
        if (match := re.fullmatch(r"(?:iter|epoch)_(\d+)", path.stem))
    ]
    for _, path in sorted(numbered, reverse=True):
        try:
            if "optimizer" in Checkpoint.read(path).content:
                return path
        except KTDNError as error:
            print_lines(f"Skipped while looking for a checkpoint to resume: {error}")
    return None


def archive_earlier_run(work_dir: Path, needed: Mapping[str, Any]) -> None:
    """Renames an earlier run's folder, which mmengine would overwrite.

    Args:
        work_dir: The folder.
        needed: Files that the new run reads, by the key that names them.

    Raises:
        SeveralErrors: If some of them are in the folder.
    """
    if not any(work_dir.glob("*.pth")):
        return
    problems = archived_inputs(
        work_dir, needed, "choose another folder with --work-dir, or use --resume"
    )
    if problems:
        raise SeveralErrors(problems)
    if distributed.rank() == 0:
        target = archive_run(work_dir)
        print_lines(f"An earlier run in {work_dir} was moved to {target}.")
