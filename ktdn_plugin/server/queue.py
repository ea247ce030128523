"""The queue in front of the network: bounded, in order, and it knows how long it will take."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from ktdn_plugin.errors import KTDNError

T = TypeVar("T")


class StoppingError(KTDNError):
    """The server is stopping."""

    def __init__(self) -> None:
        super().__init__("the server is stopping")


class QueueFullError(Exception):
    """All places are taken.

    Args:
        seconds: After how many seconds one is likely to be free.
    """

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"the queue is full; try again in {seconds} s")


class Place:
    """A place in the queue; taken before the upload, so that uploads are bounded too.

    As a context it is given back at the end, unless work was handed in: then when that is done.
    """

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self.pixels = 0
        self.is_running = False

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.pixels:
            self._queue.give_back(self)

    def run(self, work: Callable[[], T], pixels: int) -> Future[T]:
        """Queues work for the one thread that runs the network.

        Args:
            work: What to do.
            pixels: The photograph's pixels, which tell how long it takes.
        """
        return self._queue.submit(self, work, max(pixels, 1))

    @property
    def ahead(self) -> int:
        """How many photographs come before this one."""
        return self._queue.ahead(self)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until this one is done, by what others took; None before any was done."""
        return self._queue.seconds_left(self)


class WorkQueue:
    """One thread that works through a bounded queue.

    Args:
        most: Places.

    Attributes:
        most: Places.
        is_stopped: Whether no more work is taken.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._executor = ThreadPoolExecutor(1, "ktdn-network")
        self._lock = threading.Lock()
        self._taken: set[Place] = set()
        self._waiting: list[Place] = []  # the first one is running
        self._lasted: deque[tuple[int, float]] = deque(maxlen=12)
        self.is_stopped = False

    def __len__(self) -> int:
        """Returns how many places are taken."""
        return len(self._taken)

    def take(self) -> Place:
        """Takes a place.

        Raises:
            QueueFullError: If there is none.
        """
        with self._lock:
            if len(self._taken) >= self.most:
                rate = self._rate() or 0
                first = self._waiting[0].pixels if self._waiting else 0
                raise QueueFullError(min(max(math.ceil(rate * first), 1), 60))
            place = Place(self)
            self._taken.add(place)
            return place

    def submit(self, place: Place, work: Callable[[], T], pixels: int) -> Future[T]:
        """See :meth:`Place.run`."""

        def run() -> T:
            place.is_running = True
            begin = time.monotonic()
            result = work()
            with self._lock:
                self._lasted.append((pixels, time.monotonic() - begin))
            return result

        with self._lock:
            if self.is_stopped:
                raise StoppingError
            future = self._executor.submit(run)
            place.pixels = pixels
            self._waiting.append(place)
        future.add_done_callback(lambda _: self.give_back(place))
        return future

    def give_back(self, place: Place) -> None:
        """Frees a place."""
        with self._lock:
            self._taken.discard(place)
            if place in self._waiting:
                self._waiting.remove(place)

    def ahead(self, place: Place) -> int:
        """See :attr:`Place.ahead`."""
        with self._lock:
            return self._waiting.index(place) if place in self._waiting else 0

    def seconds_left(self, place: Place) -> float | None:
        """See :attr:`Place.seconds_left`."""
        with self._lock:
            rate = self._rate()
            if rate is None or place not in self._waiting:
                return None
            until = self._waiting[: self._waiting.index(place) + 1]
            return rate * sum(one.pixels for one in until)

    def _rate(self) -> float | None:
        """Returns seconds a pixel."""
        if not self._lasted:
            return None
        return sum(seconds for _, seconds in self._lasted) / sum(
            pixels for pixels, _ in self._lasted
        )

    def stop(self) -> None:
        """Cancels what waits; what is running runs on."""
        with self._lock:
            self.is_stopped = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Waits for what is running, and ends the thread."""
        self.stop()
        self._executor.shutdown(wait=True)
