"""``ktdn comfyui``: copy the node into ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import Overwrite


def comfyui(
    destination: Annotated[Path, Parameter(name="DEST")], /, *, overwrite: Overwrite = False
) -> None:
    """Copy the node 'Dehaze (KTDN)' into ComfyUI.

    Args:
        destination: ComfyUI's folder, or its custom_nodes.
    """
    from ktdn_plugin.comfyui.install import copy_node

    copy_node(destination, overwrite)
