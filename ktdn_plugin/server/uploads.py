"""Taking in a photograph: raw or in a form, to a file of our own naming."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import python_multipart  # noqa: F401  Starlette asks for it at the first form only
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ktdn_plugin.server.guard import too_large_line

_BUFFER = 2**20


async def take_raw(request: Request, path: Path, upload: int) -> None:
    """Writes a request's body to a file.

    Args:
        request: The request.
        path: The file.
        upload: Bytes that are taken at most.

    Raises:
        HTTPException: If it is empty or too large.
    """
    count = 0
    held = bytearray()
    with path.open("wb") as file:
        async for chunk in request.stream():
            count += len(chunk)
            if count > upload:
                raise HTTPException(413, too_large_line(upload))
            held += chunk
            if len(held) >= _BUFFER:
                await asyncio.to_thread(file.write, bytes(held))
                held.clear()
        await asyncio.to_thread(file.write, held)
    if not count:
        raise HTTPException(422, "the body is empty; send a photograph's file")


async def take_form(request: Request, path: Path, upload: int) -> tuple[str, dict[str, Any]]:
    """Writes the one file of a form to a file.

    Args:
        request: The request, ``multipart/form-data``.
        path: The file.
        upload: Bytes that are taken at most.

    Returns:
        The file's name, and the form's other fields.

    Raises:
        HTTPException: If there is not one file, or it is empty or too large.
    """
    async with request.form(max_files=1, max_fields=8) as form:
        files = [(key, one) for key, one in form.multi_items() if isinstance(one, UploadFile)]
        fields = {key: one for key, one in form.multi_items() if not isinstance(one, UploadFile)}
        if [key for key, _ in files] != ["file"]:
            raise HTTPException(422, "file: the form has no file of this name; add it")
        file = files[0][1]
        if (file.size or 0) > upload:
            raise HTTPException(413, too_large_line(upload))
        if not file.size:
            raise HTTPException(422, "file: is empty; send a photograph's file")
        with path.open("wb") as out:
            while chunk := await file.read(_BUFFER):
                await asyncio.to_thread(out.write, chunk)
        return file.filename or "photo", fields
