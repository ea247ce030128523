"""The options files that come with the package: finding them, copying them to edit."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import write_folder_whole


def options_folder() -> Path:
    """Finds the options files: shipped inside the package, or beside it in a checkout."""
    package = Path(str(resources.files("ktdn_plugin")))
    for folder in (package / "options", package.parent / "options"):
        if (folder / "train_ktdn.yml").is_file():
            return folder
    raise KTDNError(f"{package}: its options files are missing; reinstall ktdn-plugin")


def copy_options_folder(folder: Path) -> None:
    """Copies all options files to a new folder.

    Raises:
        KTDNError: If the folder exists already or cannot be written.
    """
    try:
        if folder.exists() or folder.is_symlink():
            raise FileExistsError
        write_folder_whole(folder, _copy)
    except FileExistsError as error:
        raise KTDNError(f"{folder}: already exists; choose another folder with -o") from error
    except (OSError, shutil.Error) as error:
        raise KTDNError(
            f"{folder}: cannot be written ({_reason(error)}); free some space or name another "
            "folder by -o"
        ) from error
    print_lines(f"Options: {folder}")


def _copy(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__*")
    shutil.copytree(options_folder(), folder, ignore=ignored, dirs_exist_ok=True)


def _reason(error: OSError) -> str:
    """Returns the first failure; copytree continues, and lists (source, target, reason)."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][2])
    return error.strerror or str(error)
