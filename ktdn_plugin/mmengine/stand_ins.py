"""What stands for parts that a dry run does not build, and what sections have to be."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.fileio import get_file_backend
from torch.utils.data import DataLoader, Dataset

from ktdn_plugin.errors import KTDNError

PLAIN = (str, int, float, list, tuple)
"""What a config has in place of a section by mistake, and never an object that it made itself."""


def as_mapping(section: Any) -> Mapping[str, Any]:
    """Returns a section that has to be a dictionary.

    Raises:
        KTDNError: If it is none.
    """
    if not isinstance(section, Mapping):
        raise KTDNError("must be a dict")
    return section


def as_list(section: Any) -> Sequence[Any]:
    """Returns a section that has to be a list.

    Raises:
        KTDNError: If it is none.
    """
    if not isinstance(section, (list, tuple)):
        raise KTDNError(f"{section!r} must be a list of dict(type=...)")
    return section


def check_backend(options: Mapping[str, Any]) -> None:
    """Checks that there is a storage backend.

    Raises:
        KTDNError: If there is none.
    """
    try:
        get_file_backend("checkpoint.pth", backend_args=dict(options))
    except KeyError as error:
        raise KTDNError(f"backend_args: there is no backend {error}") from error


class Unread(Dataset):
    """Stands for a dataset that is not built."""

    def __len__(self) -> int:
        return 1


class Idle:
    """A data loader that reads nothing."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return len(self._loader)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps to itself what is going to be said when the run begins."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    silence = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
