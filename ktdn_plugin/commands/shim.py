"""``ktdn shim``: KTDN for traiNNer-redux and neosr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ktdn_plugin.commands.flags import Overwrite


def shim(
    destination: Annotated[Path, Parameter(name="DEST")],
    /,
    *,
    program: Annotated[
        Literal["trainner-redux", "neosr"] | None,
        Parameter(name="--for", show_default="detected from DEST"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write ktdn_arch.py, which adds KTDN to traiNNer-redux or neosr.

    Args:
        destination: The program's checkout, or the folder archs in it.
        program: Which program it is.
    """
    from ktdn_plugin.shims.writing import write_shim

    write_shim(destination, program, overwrite)
