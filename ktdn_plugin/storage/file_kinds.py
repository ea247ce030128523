"""What a file is that is not a checkpoint, and what to do with it."""

from __future__ import annotations

import contextlib
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ktdn_plugin.errors import KTDNError, did_you_mean

NO_CHECKPOINT = "not a checkpoint file"
"""What is said of a file of which nothing else is known."""

_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")


def check_regular(path: Path) -> int:
    """Checks that a regular file is there.

    Returns:
        Its size in bytes.

    Raises:
        KTDNError: If it is not there, or is a folder, a pipe, a device.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        guess = did_you_mean(path.name, _beside(path))
        raise KTDNError(f"{path}: no such checkpoint file{guess}") from error
    if stat.S_ISDIR(found.st_mode):
        raise KTDNError(f"{path}: no such checkpoint file (it is a folder)")
    if not stat.S_ISREG(found.st_mode):
        raise KTDNError(f"{path}: a pipe or a device, not a checkpoint file; copy it into a file")
    return found.st_size


def _beside(path: Path) -> list[str]:
    """Lists the folder's files of the same kind, among which another may have been meant."""
    try:
        return sorted(one.name for one in path.parent.iterdir() if one.suffix == path.suffix != "")
    except (OSError, ValueError):
        return []


def describe(path: Path) -> str:
    """Describes a file that does not start like a checkpoint.

    Returns:
        What to print behind the file's name.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(1024)
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        if start.startswith(b"version https://git-lfs"):
            return (
                "not a checkpoint file but a git-lfs pointer; fetch the "
                "file itself with 'git lfs pull', or download it from the repository's page"
            )
        if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
            return (
                "not a checkpoint file but a web page, which a download link led to; open the "
                "link in a browser, and download the file itself"
            )
        for magic, packed in _ARCHIVES.items():
            if start.startswith(magic):
                return f"not a checkpoint file but an archive ({packed}); give the file inside it"
        if start[257:262] == b"ustar":
            return "not a checkpoint file but an archive (tar); give the file inside it"
        if (kind := exported_as(path)) is not None:
            return kind
    return NO_CHECKPOINT


def describe_archive(names: Iterable[str]) -> str:
    """Describes a zip archive that torch did not write.

    Args:
        names: Of the files in it.
    """
    inside = [name for name in names if name.lower().endswith(_SUFFIXES)]
    if inside:
        shown = ", ".join(inside[:3])[:200]
        return f"not a checkpoint file but a zip archive containing {shown}; unpack it"
    return "not a checkpoint file but some other zip archive"


def exported_as(path: Path) -> str | None:
    """Finds out whether a file is a network in a form to run, which is not a checkpoint.

    Returns:
        What it is, for a message; None where it is none.
    """
    kind = _runtime_of(path)
    if kind is None:
        return None
    return (
        f"an exported network ({kind}), which runs without this package; give the checkpoint "
        "that it was exported from"
    )


def _runtime_of(path: Path) -> str | None:
    # Of a damaged archive zipfile says anything at all.
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] or name for name in archive.namelist()}
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "torch.export, for torch.export.load"
        if "constants.pkl" in names:
            return "TorchScript, for torch.jit.load"
        return None
    with path.open("rb") as file:
        start = file.read(3)
    # ONNX is a protocol buffer: its version as a small number, and the next field's tag, which is
    # the producer's name or its version, the domain, the graph, or the operator sets.
    if len(start) == 3 and start[0] == 0x08 and start[1] < 0x20 and start[2] in b"\x12\x1a\x22:B":
        return "ONNX, for onnxruntime"
    return None
