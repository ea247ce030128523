"""Ctrl-C while threads work."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Defers Ctrl-C until it is asked for.

    Python raises it wherever the main thread is. Inside a lock's own code that leaves the lock
    locked, and the threads that want it wait forever, and so does whoever waits for them.

    Yields:
        A function that raises KeyboardInterrupt if Ctrl-C was pressed; to be called often.
    """
    pressed: list[int] = []

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    except ValueError:  # not the main thread, which is the one that gets it
        yield check
        return
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
