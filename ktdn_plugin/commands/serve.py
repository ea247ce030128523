"""``ktdn serve``: a page that dehazes photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from ktdn_plugin.commands.flags import NETWORK, Network, Whole, valued
from ktdn_plugin.errors import KTDNError

_EXTRA = ("fastapi", "starlette", "uvicorn", "python_multipart")


def serve(
    *,
    checkpoint: Annotated[str, valued("NAME_OR_FILE")] = "ktdn_small",
    network: Network = NETWORK,
    host: Annotated[str, valued("ADDRESS")] = "127.0.0.1",
    port: Annotated[Whole, valued("NUMBER")] = 8000,
    allow_host: Annotated[Sequence[str], valued("NAME...")] = (),
    max_upload: Annotated[str, valued("SIZE")] = "50MB",
    max_pixels: Annotated[Whole, valued("NUMBER")] = 64_000_000,
    max_queue: Annotated[Whole, valued("NUMBER")] = 32,
    max_stored: Annotated[str, valued("SIZE")] = "10GB",
    keep_minutes: Annotated[Whole, valued("MINUTES")] = 60,
) -> None:
    """Serve a page that dehazes photographs, for this machine or a network.

    Drop photographs or a folder on the page, compare, choose the strength,
    download. Programs call POST /dehaze; /openapi.json describes it, and
    /healthz says when the network is ready.

    Nothing is kept: uploads and results lie in a private temporary folder, and
    go when the page removes them or is closed, after --keep-minutes, and with
    the server.

    examples:
      ktdn serve                              at http://127.0.0.1:8000/
      ktdn serve --host 0.0.0.0               for phones in the same network
      curl -T photo.jpg -X POST http://127.0.0.1:8000/dehaze -o clear.jpg

    Args:
        checkpoint: A trained network: ktdn_small, ktdn_tiny or a file. The two ship with the
            package; a file is a KTDN from any training program, .pth or .safetensors.
        host: Address to listen at. 127.0.0.1 is this machine alone; with any other, all who reach
            it may use the page, without a password.
        port: Port to listen at. 0 takes any that is free, and prints it.
        allow_host: Names that the page may be opened by. Those of this machine, and addresses, may
            always.
        max_upload: Largest file that is taken.
        max_pixels: Pixels of the largest photo that is read. Larger ones are refused.
        max_queue: Photographs that are uploaded, wait or are dehazed at a time. Others are asked
            to come back.
        max_stored: Disk space for photographs of the page.
        keep_minutes: How long photographs are kept after the page last asked for them.
    """
    try:
        from ktdn_plugin.server.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise KTDNError(
            f"ktdn serve needs {error.name}: pip install fastapi uvicorn python-multipart "
            "(the extra 'ui')"
        ) from error
    from ktdn_plugin.inference.memory_sizes import parse_memory
    from ktdn_plugin.server.limits import Limits

    least = {"--max-pixels": max_pixels, "--max-queue": max_queue, "--keep-minutes": keep_minutes}
    for flag, number in least.items():
        if number < 1:
            raise KTDNError(f"{flag} {number}: must be at least 1")
    limits = Limits(
        upload=parse_memory(max_upload, "--max-upload"),
        stored=parse_memory(max_stored, "--max-stored"),
        pixels=max_pixels,
        queue=max_queue,
        minutes=keep_minutes,
    )
    run(checkpoint, network=vars(network), host=host, port=port, limits=limits, allowed=allow_host)
