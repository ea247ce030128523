"""What is refused before a request is looked at: strange hosts, other sites, large bodies.

A page of another site could make a visitor's browser call a server on this machine: directly, which
the check of ``Origin`` refuses, or through a name of its own that it points to 127.0.0.1 (DNS
rebinding), which the check of ``Host`` refuses. Addresses cannot be pointed elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ktdn_plugin.inference.memory_sizes import format_memory

SECONDS_BETWEEN_CHUNKS = 30
_SECONDS_TO_DRAIN = 5
_ENVELOPE = 64 * 1024  # of a multipart body, beside the file
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without any, forms would come from nowhere
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    def __init__(self, status: int, line: str) -> None:
        self.status, self.line = status, line
        super().__init__(line)


def is_loopback(host: str) -> bool:
    """Returns whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(netloc: str) -> str:
    """Returns a host without its port, in lower case; empty if there is none."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Guard:
    """An ASGI middleware.

    Args:
        app: What is guarded.
        bound: The address that the server listens at.
        allowed: Further names that it may be called by.
        upload: Bytes of a file that are taken.
    """

    def __init__(self, app: ASGIApp, bound: str, allowed: Collection[str], upload: int) -> None:
        self._app = app
        self._is_local = is_loopback(bound)
        self._names = {"localhost", bound.lower(), *(name.lower() for name in allowed)}
        if not self._is_local:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own}.local", own.partition(".")[0]}
        self._allowed = {name.lower() for name in allowed}
        self._upload = upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks a request, and passes it on with its body counted."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self._upload + _ENVELOPE, self._upload)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    found.setdefault(name, value)
                if message["status"] >= 400 and "expect" not in headers:
                    # A client that is still sending would lose the answer with the connection.
                    await body.drain()
            await send(message)

        try:
            self._check(scope["method"], headers)
        except _Refused as refused:
            answer = JSONResponse({"detail": refused.line}, refused.status)
            await answer(scope, body.receive, send_safely)
        else:
            await self._app(scope, body.receive, send_safely)

    def _check(self, method: str, headers: Headers) -> None:
        netloc = headers.get("host", "")
        if not self._knows(host_of(netloc)):
            raise _Refused(421, "Host: this server is not called so; see --allow-host")
        if method not in ("GET", "HEAD"):
            origin = headers.get("origin")
            is_other = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
            if origin is not None:
                there = urlsplit(origin).netloc
                is_other = there != netloc and host_of(there) not in self._allowed
            if is_other:
                raise _Refused(403, "Origin: a page of another site may not use this server")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._upload + _ENVELOPE:
            raise _Refused(413, too_large_line(self._upload))

    def _knows(self, host: str) -> bool:
        if host in self._names:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local


def too_large_line(upload: int) -> str:
    """Returns what is said of a file that is too large."""
    return f"too large: this server takes files of at most {format_memory(upload)}"


class _Body:
    """A request's body: counted as it comes, and not waited for without end."""

    def __init__(self, receive: Receive, most: int, upload: int) -> None:
        self._receive = receive
        self._most = most
        self._upload = upload
        self._count = 0
        self._is_whole = False

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()  # which waits for the client to leave
        try:
            message = await asyncio.wait_for(self._receive(), SECONDS_BETWEEN_CHUNKS)
        except asyncio.TimeoutError:  # another one than the built-in in Python 3.10
            raise HTTPException(408, "the upload has stalled; send it again") from None
        self._took(message)
        if self._count > self._most:
            raise HTTPException(413, too_large_line(self._upload))
        return message

    async def drain(self) -> None:
        """Reads on for a while, and forgets it."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._read_on(), _SECONDS_TO_DRAIN)

    async def _read_on(self) -> None:
        while not self._is_whole:
            self._took(await self._receive())

    def _took(self, message: Message) -> None:
        self._count += len(message.get("body", b""))
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
