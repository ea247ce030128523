"""Reads, computes and writes images at the same time: in order, within bounds, without torch.

While the network computes, threads decode what comes next and encode what came before. Each stage
passes tasks on in the order in which they came, whichever finishes first, so that messages and
tables are the same whatever the number of threads.
"""

from __future__ import annotations

import os
import queue
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ktdn_plugin.errors import KTDNError, is_device_lost

BYTES_PER_PIXEL = 12
"""What an image of 8 bit takes at most while it is decoded, waits or is encoded: four copies."""

SHARE = 0.125
"""Share of the free memory that images take while they are read, wait and are written."""


class Task:
    """Something on its way through a pipeline.

    Attributes:
        cost: Bytes that it takes on its way, other than the network's.
        error: What a stage raised; later stages leave the task as it is.
    """

    def __init__(self, cost: int = 0) -> None:
        self.cost = cost
        self.error: BaseException | None = None


AnyTask = TypeVar("AnyTask", bound=Task)
Run = Callable[[AnyTask], Any]


class Pipeline:
    """Passes tasks through reading, computing and writing.

    Use it as a context manager: on leaving, also by Ctrl-C, what has begun to be read or written is
    finished, and nothing else is begun.

    Args:
        workers: Threads for reading and writing; 0 does one thing after another.
        devices: Number of threads that compute. One computes in the calling thread, where Ctrl-C
            interrupts it at once.
        room: Bytes that tasks may take at the same time; a task that takes more goes alone.
        in_turn: Read one task at a time, and write one at a time, in their order: a thread of
            ``workers`` reads and another one writes.
    """

    def __init__(
        self, workers: int, devices: int = 1, room: int | None = None, *, in_turn: bool = False
    ) -> None:
        self.workers = workers
        self.devices = devices
        self.room = room
        threads = 1 if in_turn else workers
        self._files: Executor = ThreadPoolExecutor(threads) if workers else _Inline()
        self._writing = ThreadPoolExecutor(1) if in_turn and workers else self._files
        self._compute: Executor = ThreadPoolExecutor(devices) if devices > 1 else _Inline()
        self._taken = 0

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        for executor in (self._compute, self._files, self._writing):
            executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self,
        tasks: Iterable[AnyTask],
        read: Run[AnyTask],
        compute: Run[AnyTask],
        write: Run[AnyTask],
    ) -> Iterator[AnyTask]:
        """Yields the tasks in order, each once it is done or has an error.

        Args:
            tasks: What to do.
            read: Runs in a thread of ``workers``.
            compute: Runs in a device's thread.
            write: Runs in a thread of ``workers``.
        """
        ahead = 2 * self.workers
        admitted = self._admit(iter(tasks))
        decoded = self._stage(admitted, read, self._files, ahead)
        computed = self._stage(decoded, compute, self._compute, self.devices - 1)
        for task in self._stage(computed, write, self._writing, ahead):
            if task is not None:
                self._taken -= task.cost
                yield task

    def _admit(self, tasks: Iterator[AnyTask]) -> Iterator[AnyTask | None]:
        """Yields tasks as there is room for them, and None while there is not."""
        for task in tasks:
            while self.room is not None and 0 < self._taken > self.room - task.cost:
                yield None
            self._taken += task.cost
            yield task

    def _stage(
        self,
        tasks: Iterator[AnyTask | None],
        run: Run[AnyTask],
        executor: Executor,
        width: int,
    ) -> Iterator[AnyTask | None]:
        """Yields tasks once ``run`` is done with them, with up to ``width`` more in progress.

        None, for want of room, lets the oldest task go on to the next stage at once; it is passed
        on if there is none.
        """
        waiting: deque[tuple[AnyTask, Future[None]]] = deque()

        def oldest() -> AnyTask:
            task, future = waiting.popleft()
            future.result()
            return task

        for task in tasks:
            if task is not None:
                waiting.append((task, executor.submit(_attempt, run, task)))
            elif not waiting:
                yield None
                continue
            if task is None or len(waiting) > width:
                yield oldest()
        while waiting:
            yield oldest()


def _attempt(run: Run[AnyTask], task: AnyTask) -> None:
    if task.error is not None:
        return
    try:
        run(task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The traceback would keep the images alive that its frames hold.
        traceback.clear_frames(error.__traceback__)
        task.error = error


class _Inline(Executor):
    """Runs what is submitted at once, in the calling thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def usable_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class DevicePool:
    """Runs a network on whichever of several devices is idle.

    A device that is lost in the middle gets nothing more; its image goes to another one.

    Args:
        networks: The network on each device, by the device's name.

    Attributes:
        lost: What happened to devices that are gone, one line each.
    """

    def __init__(self, networks: Mapping[str, Callable[[Any], Any]]) -> None:
        self.size = len(networks)
        self.lost: list[str] = []
        self._idle: queue.SimpleQueue[tuple[str, Callable[[Any], Any]] | None] = queue.SimpleQueue()
        for item in networks.items():
            self._idle.put(item)

    def __call__(self, image: Any) -> Any:
        """Dehazes an image.

        Raises:
            KTDNError: If no device is left, or as the networks do.
        """
        while True:
            item = self._idle.get()
            if item is None:  # all are lost; the next one is to know as well
                self._idle.put(None)
                raise KTDNError(f"no device is left: {'; '.join(self.lost)}")
            name, network = item
            try:
                result = network(image)
            except Exception as error:
                if not is_device_lost(error):
                    self._idle.put(item)
                    raise
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self.lost.append(f"{name} was lost ({reason})")
                if len(self.lost) == self.size:
                    self._idle.put(None)
            else:
                self._idle.put(item)
                return result
