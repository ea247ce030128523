"""Whether a picture can be written, asked before the work that it is a picture of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import format_of
from ktdn_plugin.storage.writable import check_writable


def check_output(path: Path) -> None:
    """Refuses a place where no picture can be written; leaves nothing there, not even a folder.

    Raises:
        KTDNError: The ending is not one of a picture, or the place is taken or not writable.
    """
    format_of(path)
    advice = "choose another place with -o"
    try:
        path.lstat()  # a name that is too long fails here
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise KTDNError(
            f"{path}: cannot be written ({error.strerror or error}); {advice}"
        ) from error
    if path.is_dir():
        raise KTDNError(f"{path}: a folder; give a file with -o")
    check_writable(path.absolute().parent, path, advice)


def check_is_none_of(path: Path, sources: Iterable[Path]) -> None:
    """Refuses a place where a picture would replace one of the images that it is made from.

    Raises:
        KTDNError: It is one of them.
    """
    place = path.resolve()
    # Names first: to resolve each of a hundred thousand paths would take seconds.
    if any(source.name == place.name and source.resolve() == place for source in sources):
        raise KTDNError(f"{path}: is one of the images; choose another place with -o")
