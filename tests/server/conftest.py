"""A server with small limits, and what the same network makes here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'ui' is not installed")

from served import Server

LIMITS = ("--max-upload", "1MB", "--max-pixels", "400000", "--max-queue", "8")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), *LIMITS)
    yield server
    server.command.process.terminate()
    server.command.wait(30)


@pytest.fixture(scope="package")
def expected() -> Callable[[np.ndarray, float], np.ndarray]:
    """What the same network makes of pixels in this process."""
    from ktdn_plugin import Dehazer

    dehazer = Dehazer("ktdn_tiny", device="cpu")

    def dehaze(pixels: np.ndarray, strength: float = 1.0) -> np.ndarray:
        dehazer.strength = strength
        return dehazer(pixels)

    return dehaze
