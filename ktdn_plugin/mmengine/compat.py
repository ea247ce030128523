"""Lets mmengine read and write its checkpoints safely with current torch."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer

from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.storage.plain_values import NUMPY, NumpyType, numpy_number

WHOLE_FILES = "ktdn_whole_files"
"""Name of the storage backend that leaves no half-written checkpoint behind."""


class WholeFilesBackend(LocalBackend):
    """A local file backend with atomic writes.

    mmengine writes checkpoints in place: a killed run or a full disk leaves a truncated file.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file.

        Raises:
            KTDNError: If it cannot be written.
        """
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_whole(filepath, lambda file: file.write(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Writes text, such as the name of the last checkpoint.

        Raises:
            KTDNError: If it cannot be written.
        """
        self.put(obj.encode(encoding), filepath)


class _Array:
    """Stands in for a numpy array while a file is read, keeping the numbers if it is 1-D."""

    numbers: tuple[Any, ...] = ()

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, content = state
        if len(shape) == 1 and isinstance(kind, NumpyType) and kind.code is not None:
            # Fails if there are not as many as the shape says.
            self.numbers = struct.unpack(f"{kind.order}{int(*shape)}{kind.code}", content)


class _History(HistoryBuffer):
    """Becomes an mmengine ``HistoryBuffer`` once its numbers have been read."""

    def __setstate__(self, state: Any) -> None:
        logs, counts = state["_log_history"], state["_count_history"]
        super().__init__(logs.numbers, counts.numbers, int(state["max_length"]))
        self.__class__ = HistoryBuffer


def _method(*_: Any) -> None:
    """Stands in for ``getattr``: a log names its class's methods, which any new one has anyway."""


def apply() -> None:
    """Lets torch's restricted unpickler read mmengine's checkpoints, keeping ``weights_only`` on.

    None of the functions that a file names are allowed through: numpy's own, given a file's
    numbers, read and write wherever these point.
    """
    history = f"{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}"
    torch.serialization.add_safe_globals(
        [
            (_History, history),
            (_method, "builtins.getattr"),
            (NumpyType, "numpy.dtype"),
            (_Array, "numpy.ndarray"),
            *((_Array, f"{module}._reconstruct") for module in NUMPY),
            *((numpy_number, f"{module}.scalar") for module in NUMPY),
        ]
    )


register_backend(WHOLE_FILES, WholeFilesBackend, force=True)
