"""BasicSR's meta files: text files that say which images of a folder or an LMDB are meant."""

from __future__ import annotations

from pathlib import Path

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.text_files import read_text


def read_meta_info(path: str | Path) -> list[str]:
    """Reads a BasicSR meta file, in which a line is a file's name, a space, and what else is known.

    Returns:
        The name of each line, as BasicSR itself takes it.

    Raises:
        KTDNError: If the file cannot be read, names nothing, or has what BasicSR would take for a
            part of a name: an empty line, a tab, a byte-order mark.
    """
    lines = read_text(path).splitlines()
    if not lines:
        raise KTDNError(f"{path}: lists no files")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or "\t" in line or line.startswith("\ufeff"):
            raise KTDNError(
                f"{path}, line {number}: is empty, or has a tab or a byte-order mark; write one "
                "name per line, anything else after a space"
            )
    return [line.strip().split(" ")[0] for line in lines]
