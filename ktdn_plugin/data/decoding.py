"""Source images on their way into a store: their file status, and decoding many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.interrupts import defer_interrupts
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import decode_rgb
from ktdn_plugin.pipeline import usable_cores
from ktdn_plugin.scenes.image_files import (
    file_image_size,
    file_status,
    headers_bar,
    name_within,
)
from ktdn_plugin.scenes.images import FileImages, centered, cut
from ktdn_plugin.scenes.scene_set import SceneSet

AHEAD_BYTES = 512 * 2**20  # of decoded images that wait for being written

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """An image that is to be stored.

    Attributes:
        side: ``hazy`` or ``clear``.
        number: Its number on its side.
        path: Its file.
        name: The file's name within the dataset.
        file_bytes: The file's size.
        mtime_ns: When the file was changed.
        size: Height and width of the whole image.
        center: What is kept of a larger one.
    """

    side: str
    number: int
    path: Path
    name: str
    file_bytes: int
    mtime_ns: int
    size: tuple[int, int]
    center: tuple[int, int] | None

    @property
    def kept(self) -> tuple[int, int]:
        """Height and width of what is stored."""
        return self.size if self.center is None else centered(self.size, self.center)[2:]

    @property
    def pixel_bytes(self) -> int:
        """Bytes of what is stored."""
        return self.kept[0] * self.kept[1] * 3

    @property
    def version(self) -> tuple[int, int]:
        """What changes when the file does."""
        return self.file_bytes, self.mtime_ns

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """Decodes the file's content.

        Returns:
            RGB, (h, w, 3), cut to what is kept.

        Raises:
            KTDNError: If it is not a complete image, or not the one that was measured.
        """
        image = decode_rgb(content, self.path)
        if image.shape[:2] != self.size:
            raise KTDNError(f"{self.path}: changed while it was read")
        return image if self.center is None else cut(image, centered(self.size, self.center))


def measure(scenes: SceneSet) -> list[Source]:
    """Looks at the sizes, times and headers of all files of scenes that lie in files.

    Returns:
        Hazy images, then clear ones, each in the scenes' order.

    Raises:
        KTDNError: If one cannot be read, or hazy and clear of a pair differ in size: files that
            changed since they were listed.
    """
    listed = [
        (side, number, path)
        for side, paths in (("hazy", scenes.files("hazy")), ("clear", scenes.files("clear")))
        for number, path in enumerate(paths)
    ]
    sources = [_measure(scenes, *each) for each in headers_bar(listed)]
    first_clear = len(scenes.files("hazy"))
    for hazy_number, clear_number in [] if scenes.pairs is None else scenes.pairs.tolist():
        hazy, clear = sources[hazy_number], sources[first_clear + clear_number]
        if hazy.kept != clear.kept:
            sizes = " and ".join(f"{each.size[1]} x {each.size[0]}" for each in (hazy, clear))
            raise KTDNError(
                f"{hazy.path} and {clear.path} differ in size ({sizes}); make them equal, or "
                "remove both"
            )
    return sources


def _measure(scenes: SceneSet, side: str, number: int, path: Path) -> Source:
    status = file_status(path)
    clear = scenes.clear
    return Source(
        side,
        number,
        path,
        name_within(path, scenes.place),
        status.st_size,
        status.st_mtime_ns,
        file_image_size(path),
        clear.center if side == "clear" and isinstance(clear, FileImages) else None,
    )


THREADS = "ktdn-decoding"  # how they are named, for whoever looks what a process is doing


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    result_bytes: Callable[[Item], int] = lambda _: 0,
) -> Generator[tuple[Item, Result], None, None]:
    """Works on many images, or scenes, at a time, and gives the results in order.

    Threads do: OpenCV decodes and encodes without holding Python's lock. What is worked on ahead
    of the one that is asked for is bounded, and so is memory.

    Args:
        work: What to do with each.
        items: The images.
        workers: How many at a time; by default one per processor.
        result_bytes: Returns how many bytes a result takes while it waits.

    Raises:
        KTDNError: What ``work`` raises; no other image is started then.
        KeyboardInterrupt: If Ctrl-C is pressed; between two results, see :func:`defer_interrupts`.
    """
    workers = workers or usable_cores()
    ahead: deque[tuple[Item, Future[Result]]] = deque()
    waiting = 0
    with defer_interrupts() as check_interrupt:
        executor = ThreadPoolExecutor(workers, thread_name_prefix=THREADS)
        try:
            for item in items:
                while ahead and (
                    len(ahead) > 2 * workers or waiting + result_bytes(item) > AHEAD_BYTES
                ):
                    check_interrupt()
                    done, future = ahead.popleft()
                    yield done, future.result()
                    waiting -= result_bytes(done)
                ahead.append((item, executor.submit(work, item)))
                waiting += result_bytes(item)
            while ahead:
                check_interrupt()
                done, future = ahead.popleft()
                yield done, future.result()
            check_interrupt()
        finally:
            executor.shutdown(cancel_futures=True)
