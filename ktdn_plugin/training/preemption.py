"""Ends a training cleanly when the scheduler takes the machine back.

Schedulers announce that they take a machine away: with SIGTERM (Slurm's preemption, ``docker
    stop``,
Kubernetes), or by the signal that a job asks for, mostly SIGUSR1. A training that hears it saves a
state after the iteration that it is in, and leaves by the exit code that shells and schedulers
know for a process ended by a signal, 128 and the signal's number: 143 for SIGTERM, 138 for
SIGUSR1 on Linux. A job script can thus tell it from a failure, which is 1.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch.utils.data import DataLoader

from ktdn_plugin.training import distributed

# Windows has no SIGUSR1.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@contextmanager
def defer_signals() -> Iterator[Callable[[], int]]:
    """Defers signals to stop instead of dying from them.

    Yields:
        A function for every process to call after the same iteration: it returns the number of
        the signal that has reached one of them, or 0.
    """
    received: list[int] = []
    before = {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, lambda got, _: received.append(got))
    except ValueError:  # not the main thread, which is the one that gets them
        pass
    _noticing().value = 1
    try:
        yield lambda: distributed.largest(received[0] if received else 0)
    finally:
        _noticing().value = 0
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def shield_workers(loader: DataLoader[Any]) -> None:
    """Lets the workers of a loader outlive signals that go to all processes of a job.

    Slurm sends them to each process, and a worker that dies ends the training before its state is
    saved. Once the training no longer notices signals, its workers end by them: that is how
    Python ends them when it leaves.

    Args:
        loader: The loader, of which no iterator has been made yet.
    """
    loader.worker_init_fn = _Shielded(loader.worker_init_fn)


@cache
def _noticing() -> Any:
    """Returns the byte that says to this process and its workers whether signals are noticed."""
    return multiprocessing.RawValue("b", 0)


class _Shielded:
    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.noticing = _noticing()
        self.then = then

    def __call__(self, worker: int) -> None:
        for number in SIGNALS:
            signal.signal(number, self._receive)
        if self.then is not None:
            self.then(worker)

    def _receive(self, *_: Any) -> None:
        if not self.noticing.value:
            os._exit(0)
