"""The one place where tensor files are opened: nothing in them is run, no size is trusted."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ktdn_plugin.errors import KTDNError, printable
from ktdn_plugin.storage.file_kinds import (
    NO_CHECKPOINT,
    check_regular,
    describe,
    describe_archive,
    exported_as,
)
from ktdn_plugin.storage.plain_values import Damaged, ForeignCode, ForeignTensor
from ktdn_plugin.storage.restricted_pickle import load

LONGEST_HEADER = 16 * 2**20
"""Of a safetensors file, in bytes; a network's takes about 100 for each of its tensors."""

_MAGIC = 0x1950A86A20F9469CFC6C
_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number as torch before 1.6, or told to write as that did, mostly pickles it."""


class NotReadHereError(KTDNError):
    """An intact file with content that this package does not read, though others may."""


def load_tensors(path: str | Path, without_numbers: bool = False) -> Any:
    """Reads a file written by :func:`torch.save`, or a safetensors file, onto the CPU.

    Nothing in it is run, or imported; what is allocated is bounded by the file's size.

    Args:
        path: The file.
        without_numbers: Leaves the tensors' numbers where they are: they come on torch's ``meta``
            device then, with names, shapes and data types.

    Returns:
        The content; what mmengine logged is :class:`~ktdn_plugin.storage.plain_values.Unread`.

    Raises:
        NotReadHereError: If it holds objects of other programs, or tensors of another kind.
        KTDNError: If it is not there, no such file, truncated or damaged.
    """
    path = Path(path)
    size = check_regular(path)
    if is_safetensors(path):
        return _load_safetensors(path, without_numbers)
    damaged = f"{path}: truncated or damaged checkpoint ({size} bytes)"
    try:
        with path.open("rb") as file:
            start = file.read(len(_START))
            file.seek(0)
            if start.startswith(b"PK"):
                return _load_archive(path, file, size, without_numbers)
            # Of some other pickle it is said first what it would run.
            if _START.startswith(start) or (
                start.startswith(b"\x80") and load(file, _no_numbers) == _MAGIC
            ):
                file.seek(0)
                return _load_legacy(file, size, without_numbers)
            raise KTDNError(f"{path}: {describe(path)}")
    except KTDNError:
        raise
    except ForeignCode as error:
        raise NotReadHereError(
            f"{path}: refused: it is not a plain dictionary of tensors; its other content "
            f"({printable(str(error))[:100]}) could run code when it is loaded; save only the "
            "tensors, "
            "with torch.save or safetensors"
        ) from error
    except ForeignTensor as error:
        raise NotReadHereError(
            f"{path}: holds {error} tensors; save dense ones of float numbers that own their "
            "memory (tensor.to_dense(), .float(), .clone())"
        ) from error
    except Damaged as error:
        raise KTDNError(f"{damaged}: {error}; copy or download it again") from error
    except OSError as error:
        raise KTDNError(f"{path}: cannot be read ({error.strerror or error})") from error
    # Damaged bytes lead the readers to any error at all, IndexError and struct.error among them.
    except Exception as error:
        raise KTDNError(f"{damaged}; copy or download it again") from error


def is_safetensors(path: str | Path) -> bool:
    """Returns whether a file is safetensors, by its content, else by its name.

    Raises:
        KTDNError: If it is there, but no file.
    """
    path = Path(path)
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        start = b""
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(9)
        # The length of a JSON header, and its first letter; torch's files are archives.
        if start[8:] == b"{" and int.from_bytes(start[:8], "little") < size:
            return True
        if start.startswith(b"PK\x03\x04"):
            return False
    return path.suffix == ".safetensors"


def read_header(path: str | Path) -> dict[str, str]:
    """Reads the texts in a safetensors file's header, and no tensors.

    Raises:
        KTDNError: If it is not such a file.
    """
    from safetensors import SafetensorError, safe_open

    _check_header(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _not_safetensors(Path(path), error) from error


def _check_header(path: Path) -> None:
    check_regular(path)
    with contextlib.suppress(OSError), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if LONGEST_HEADER < length < path.stat().st_size:
            raise KTDNError(
                f"{path}: its header of {length} bytes is too long; a network's is at most "
                f"{LONGEST_HEADER}"
            )


def _not_safetensors(path: Path, error: Exception) -> KTDNError:
    kind = describe(path)
    if kind == NO_CHECKPOINT:
        kind = f"not a readable safetensors file ({error})"
    return KTDNError(f"{path}: {kind}")


def _load_safetensors(path: Path, without_numbers: bool) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_header(path)
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _not_safetensors(path, error) from error
    return {key: value.to("meta") for key, value in found.items()} if without_numbers else found


def _no_numbers(key: str, dtype: torch.dtype, count: int) -> Tensor:
    raise Damaged("tensors whose numbers are nowhere")


class _Memory:
    """Allocates tensors, no more of them than the file has bytes."""

    def __init__(self, size: int, without_numbers: bool) -> None:
        self.left = size
        self.device = "meta" if without_numbers else "cpu"

    def allocate(self, dtype: torch.dtype, count: int) -> Tensor:
        needed = count * dtype.itemsize
        if needed > self.left:
            raise Damaged("tensors larger than the file")
        self.left -= needed
        return torch.empty(count, dtype=dtype, device=self.device)


def _fill(numbers: Tensor, file: IO[bytes]) -> memoryview:
    """Reads a tensor's numbers at a file's position."""
    target = memoryview(numbers.view(torch.uint8).numpy())  # type: ignore[arg-type]
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise Damaged("an end before the last number")
        done += count
    return target


def _load_archive(path: Path, file: IO[bytes], size: int, without_numbers: bool) -> Any:
    """Reads what torch has written since 1.6: a zip of a pickle and a file for each storage."""
    if (kind := exported_as(path)) is not None:
        raise NotReadHereError(f"{path}: {kind}")
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise KTDNError(f"{path}: {describe_archive(list(entries))}")
    folder = pickles[0].removesuffix("data.pkl")
    memory = _Memory(size, without_numbers)

    def read(entry: zipfile.ZipInfo, numbers: Tensor) -> memoryview:
        # The entry's own header comes first: 30 bytes, its name, and what else.
        file.seek(entry.header_offset)
        header = file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise Damaged("an entry that is none")
        file.seek(sum(struct.unpack("<HH", header[26:])), 1)
        content = _fill(numbers, file)
        # torch can be told to write no checksums.
        if entry.CRC and zlib.crc32(content) != entry.CRC:
            raise Damaged(f"{entry.filename} has a wrong checksum")
        return content

    def entry_of(name: str) -> zipfile.ZipInfo:
        entry = entries[f"{folder}{name}"]
        if entry.compress_type != zipfile.ZIP_STORED or not entry.file_size <= size:
            raise Damaged("compressed, which torch never does: save it again")
        return entry

    def numbers_of(key: str, dtype: torch.dtype, count: int) -> Tensor:
        entry = entry_of(f"data/{key}")
        if count * dtype.itemsize != entry.file_size:
            raise Damaged("a tensor of another size than its numbers")
        numbers = memory.allocate(dtype, count)
        if count and not without_numbers:
            read(entry, numbers)
        return numbers

    def bytes_of(name: str) -> bytes:
        entry = entry_of(name)
        return bytes(read(entry, torch.empty(entry.file_size, dtype=torch.uint8)))

    if f"{folder}byteorder" in entries and bytes_of("byteorder") != b"little":
        raise NotReadHereError(
            f"{path}: its numbers are big-endian; save it again on a little-endian CPU"
        )
    return load(io.BytesIO(bytes_of("data.pkl")), numbers_of)


def _load_legacy(file: IO[bytes], size: int, without_numbers: bool) -> Any:
    """Reads what torch wrote before 1.6: five pickles, and then the numbers of each storage."""
    memory = _Memory(size, without_numbers)
    storages: dict[str, Tensor] = {}

    def numbers_of(key: str, dtype: torch.dtype, count: int) -> Tensor:
        storages[key] = memory.allocate(dtype, count)
        return storages[key]

    magic, version, system = (load(file, _no_numbers) for _ in range(3))
    if magic != _MAGIC or version != 1001 or not system["little_endian"]:
        raise Damaged("an unknown version")
    content = load(file, numbers_of)
    for key in load(file, _no_numbers):
        numbers = storages.pop(key)
        if struct.unpack("<q", file.read(8)) != (numbers.numel(),):
            raise Damaged("a tensor of another size than its numbers")
        if without_numbers:
            file.seek(numbers.nbytes, 1)
        elif numbers.numel():
            _fill(numbers, file)
    if storages:
        raise Damaged("tensors without numbers")
    return content
