"""Names that strangers give: shown and offered again, never used as a path here."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ktdn_plugin.errors import printable

_LONGEST = 120
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')  # in names on Windows
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(name: str) -> PurePosixPath:
    """Returns a name as a relative path that is harmless wherever it is unpacked.

    Args:
        name: What the browser calls a file, with the folders that it was dropped with.
    """
    parts = []
    for part in name.replace("\\", "/").split("/"):
        text = printable(part.encode("utf-8", "replace").decode("utf-8")).replace("\\", "_")
        text = _FORBIDDEN.sub("_", text).strip(" .")
        if _DEVICES.fullmatch(text):
            text = f"_{text}"
        if len(text) > _LONGEST:
            stem, dot, suffix = text.rpartition(".")
            is_suffix = bool(stem) and len(suffix) <= 8
            tail = dot + suffix if is_suffix else ""
            text = text[: _LONGEST - len(tail)] + tail
        if text:
            parts.append(text)
    return PurePosixPath(*parts[-8:]) if parts else PurePosixPath("photo")
