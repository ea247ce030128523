"""``ktdn options``: copy the options files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ktdn_plugin.commands.flags import OUTPUT


def options(*, output: Annotated[Path, OUTPUT] = Path("options"), schema: bool = False) -> None:
    """Copy the options files, to edit and train with.

    Args:
        output: Where to write. A folder.
        schema: Print the JSON schema of BasicSR's options files instead, for editors.
    """
    if schema:
        from ktdn_plugin.basicsr.options.schema import json_schema_text
        from ktdn_plugin.console import print_lines

        print_lines(*json_schema_text().splitlines())
        return
    from ktdn_plugin.option_files import copy_options_folder

    copy_options_folder(output)
