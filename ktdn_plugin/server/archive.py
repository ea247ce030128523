"""Several results as one ZIP, sent as they are made."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.server.dehazing import Result

_CHUNK = 2**20
MISSING = "NOT DEHAZED.txt"


class _Sink:
    """Holds what the archive has written until it is sent; it cannot be sought in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, content: bytes) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content


async def zip_results(results: Sequence[Callable[[], Awaitable[Result]]]) -> AsyncIterator[bytes]:
    """Yields an archive part by part.

    Args:
        results: Functions that return a result each, which may still have to be made. What fails
            is named in a text file of the archive, as its sending has begun.
    """
    sink = _Sink()
    taken: set[str] = set()
    problems = []
    with zipfile.ZipFile(cast(BinaryIO, sink), "w", zipfile.ZIP_STORED) as archive:
        for result_of in results:
            try:
                result = await result_of()
                file = await asyncio.to_thread(result.path.open, "rb")
            except (KTDNError, OSError) as error:
                is_ours = isinstance(error, KTDNError)
                problems.append(str(error) if is_ours else "a photograph was removed meanwhile")
                continue
            with file, archive.open(_free(result.name, taken), "w", force_zip64=True) as entry:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    entry.write(chunk)
                    yield sink.take()
        if problems:
            archive.writestr(MISSING, "".join(f"{line}\n" for line in problems))
    yield sink.take()


def _free(name: PurePosixPath, taken: set[str]) -> str:
    """Returns a name that the archive does not have yet, also where case makes no difference."""
    free, number = name, 1
    while str(free).casefold() in taken:
        number += 1
        free = name.with_stem(f"{name.stem}-{number}")
    taken.add(str(free).casefold())
    return str(free)
