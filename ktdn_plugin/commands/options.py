"""``ktdn options``: copy the options files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ktdn_plugin.commands.flags import OUTPUT


def options(*, output: Annotated[Path, OUTPUT] = Path("options")) -> None:
    """Copy the options files, to edit and train with.

    Args:
        output: Where to write. A folder.
    """
    from ktdn_plugin.option_files import copy_options_folder

    copy_options_folder(output)
