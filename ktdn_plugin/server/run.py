"""Running the server: the port first, then the network, then the first request."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import uvicorn

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.stage import warn_if_teacher
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.server.app import build_app
from ktdn_plugin.server.guard import is_loopback
from ktdn_plugin.server.limits import Limits
from ktdn_plugin.server.queue import WorkQueue

_MOST_CONNECTIONS = 512


def serve(
    checkpoint: str,
    *,
    network: Mapping[str, Any],
    host: str,
    port: int,
    limits: Limits,
    allowed: Sequence[str] = (),
) -> None:
    """Serves the page and the REST call until it is interrupted.

    Args:
        checkpoint: A file, or the name of bundled weights.
        network: How :class:`~ktdn_plugin.Dehazer` runs it.
        host: Where to listen.
        port: The port; 0 for any that is free.
        limits: What is taken at most.
        allowed: Names that the server may be called by, beside its own.

    Raises:
        KTDNError: If the address or the port cannot be had, or the network cannot be loaded.
    """
    path = resolve_checkpoint(checkpoint)
    with _bind(host, port) as bound:  # before seconds are spent on the network
        warn_if_teacher(path)
        dehazer = Dehazer(path, **network)
        queue = WorkQueue(limits.queue)
        app = build_app(dehazer, queue, limits, host, allowed)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=3,
        )
        try:
            bound.listen(2048)
        except OSError as error:
            raise _taken(host, port, error) from error
        where = _url(host, bound.getsockname()[1])
        _Server(config, queue, f"Dehazing at {where} with {checkpoint} on {dehazer.device}").run(
            [bound]
        )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, queue: WorkQueue, greeting: str) -> None:
        super().__init__(config)
        self._queue = queue
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print_lines(f"{self._greeting}; Ctrl-C stops it")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Those who wait are told so, instead of being waited for.
        self._queue.stop()
        await asyncio.sleep(0)
        await super().shutdown(sockets)


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise KTDNError(f"--port {port}: must be 0 to 65535; 0 takes any that is free")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise KTDNError(
            f"--host {host}: is no address of this machine; give 127.0.0.1 or 0.0.0.0"
        ) from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _taken(host, port, error) from error
    return bound


def _taken(host: str, port: int, error: OSError) -> KTDNError:
    if error.errno == errno.EADDRINUSE:
        return KTDNError(
            f"--port {port}: another program listens there; take another port, or 0 for any that "
            "is free"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return KTDNError(f"--host {host}: is no address of this machine; give 127.0.0.1 or 0.0.0.0")
    return KTDNError(f"--host {host} --port {port}: {error.strerror or error}; take another one")


def _url(host: str, port: int) -> str:
    if not is_loopback(host) and host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
