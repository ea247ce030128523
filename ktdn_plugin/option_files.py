"""The options files that come with the package: finding them, copying them to edit."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError


def options_folder() -> Path:
    """Finds the options files: shipped inside the package, or beside it in a checkout."""
    package = Path(str(resources.files("ktdn_plugin")))
    for folder in (package / "options", package.parent / "options"):
        if (folder / "train_ktdn.yml").is_file():
            return folder
    raise KTDNError(f"{package}: its options files are missing; install ktdn-plugin again")


def copy_options_folder(folder: Path) -> None:
    """Copies all options files to a new folder.

    Raises:
        KTDNError: If the folder exists already or cannot be written.
    """
    try:
        shutil.copytree(options_folder(), folder, ignore=shutil.ignore_patterns("__*"))
    except FileExistsError as error:
        raise KTDNError(f"{folder}: exists already; name another folder by -o") from error
    except OSError as error:
        raise KTDNError(f"{folder}: cannot be written ({error})") from error
    print_lines(f"Options: {folder}")
