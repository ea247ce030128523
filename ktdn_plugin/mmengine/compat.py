"""What mmengine needs to read and write its checkpoints safely on today's torch."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer

from ktdn_plugin.atomic import write_whole
from ktdn_plugin.checkpoints.openmmlab_layout import allowed_classes

WHOLE_FILES = "ktdn_whole_files"
"""Name of the storage backend that leaves no half-written checkpoint behind."""


class WholeFilesBackend(LocalBackend):
    """Local files that are there whole or not at all, whatever happens while they are written.

    mmengine writes a checkpoint in place: a run that is killed, or a full disk, leaves half of it.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file.

        Raises:
            KTDNError: If it cannot be written.
        """
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_whole(filepath, lambda file: file.write(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Writes a text, such as the name of the last checkpoint.

        Raises:
            KTDNError: If it cannot be written.
        """
        self.put(obj.encode(encoding), filepath)


def apply() -> None:
    """Lets torch's restricted unpickler read mmengine's checkpoints; ``weights_only`` stays on."""
    torch.serialization.add_safe_globals(allowed_classes(HistoryBuffer))


register_backend(WHOLE_FILES, WholeFilesBackend, force=True)
