"""Raw RGB frames from standard input to standard output, between two ffmpeg, for instance."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ktdn_plugin.console import print_lines
from ktdn_plugin.dehaze.pipe import INPUT, PIPE, binary_input, binary_output, write_output
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pipeline import BYTES_PER_PIXEL, SHARE, Pipeline, Task, usable_cores
from ktdn_plugin.system_memory import available
from ktdn_plugin.videos.smoothing import Smoother

_RATE = 25
"""Frames per second, for the smoothing: raw frames have no times."""


def parse_size(text: str) -> tuple[int, int]:
    """Returns height and width of frames.

    Args:
        text: Such as ``1920x1080``, width first.

    Raises:
        KTDNError: If it is no such size.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    if match is None:
        raise KTDNError(f"--raw {text}: write the frames' size as 1920x1080, width first")
    return int(match[2]), int(match[1])


def dehaze_raw(
    inputs: Sequence[Path],
    output: Path | None,
    load: Callable[[], Callable[[Any], Any]],
    size: tuple[int, int],
    *,
    smooth: float,
    workers: int | None = None,
    **options: Any,
) -> None:
    """Dehazes frames of 8 bit RGB (ffmpeg's ``rgb24``) from standard input to standard output.

    Frames are read, dehazed and written at the same time. All messages go to standard error.

    Args:
        inputs: ``-``.
        output: ``-``.
        load: Returns a function that dehazes an RGB image (h, w, 3), uint8.
        size: The frames' height and width.
        smooth: See :class:`~ktdn_plugin.videos.VideoOptions`; there are taken to be 25 frames in a
            second.
        workers: 0 does one thing after another.
        options: Other options of ``ktdn dehaze``; those that would change nothing are refused.

    Raises:
        KTDNError: If standard input ends within a frame, nothing comes, or the reader has ended.
    """
    if list(inputs) != [PIPE] or output != PIPE:
        raise KTDNError("--raw: frames go from standard input to standard output: - -o -")
    for name, value in options.items():
        if value and name not in ("overwrite", "stop_at_errors"):
            flag = {"form": "format", "ground_truth": "gt"}.get(name, name)
            raise KTDNError(f"--{flag}: not with --raw, whose frames are raw again; leave it out")
    source = binary_input("raw frames", "ffmpeg ... - | ktdn dehaze - --raw 640x480 -o - | ...")
    sink = binary_output()
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no frame
        _run(source, sink, load(), size, Smoother(smooth), workers)


def _run(
    source: BinaryIO,
    sink: BinaryIO,
    network: Any,
    size: tuple[int, int],
    smoother: Smoother,
    workers: int | None,
) -> None:
    count = 0
    workers = usable_cores() if workers is None else workers
    share = getattr(network, "share_memory", None)
    share = share(SHARE if workers else 0) if share else None
    room = int((SHARE * (available() or 2**33)) if share is None else share)
    stages = _RawStages(source, sink, network, size, smoother)
    devices = getattr(network, "size", 1)
    with (
        Pipeline(workers, devices, room if workers else None, in_turn=True) as pipeline,
        tqdm(desc="Dehazing", unit="frame", disable=None, leave=False) as bar,
    ):
        tasks = stages.tasks()
        for task in pipeline.run(tasks, stages.read, stages.compute, stages.write):
            if task.error is not None:
                raise task.error
            count += not task.is_end
            bar.update(not task.is_end)
    width, height = size[1], size[0]
    if stages.rest:
        raise KTDNError(
            f"{INPUT}: ends within a frame, after {count} whole ones (with {stages.rest:,} of "
            f"{height * width * 3:,} bytes); --raw {width}x{height} must be the frames' size, and "
            "their -pix_fmt rgb24"
        )
    if not count:
        raise KTDNError(
            f"{INPUT}: empty (0 bytes); the program that pipes into it has written nothing"
        )
    print_lines(f"Dehazed: {count} frames", to_stderr=True)


class _RawTask(Task):
    """A frame on its way; ``is_end`` if there is none."""

    def __init__(self, cost: int) -> None:
        super().__init__(cost)
        self.hazy: NDArray[Any] | None = None
        self.dehazed: NDArray[Any] | None = None
        self.is_end = False


class _RawStages:
    """What is done with each frame, by a pipeline's threads; ``rest`` are a part's bytes."""

    def __init__(
        self,
        source: BinaryIO,
        sink: BinaryIO,
        network: Any,
        size: tuple[int, int],
        smoother: Smoother,
    ) -> None:
        self._source = source
        self._sink = sink
        self._network = network
        self._shape = (*size, 3)
        self._smoother = smoother
        self._ended = False
        self.rest = 0

    def tasks(self) -> Iterator[_RawTask]:
        """Yields tasks until there are no more frames."""
        while not self._ended:
            yield _RawTask(BYTES_PER_PIXEL * self._shape[0] * self._shape[1])

    def read(self, task: _RawTask) -> None:
        """Reads the next frame."""
        image = np.empty(self._shape, np.uint8)
        room = memoryview(image.data).cast("B")
        done = 0
        while not self._ended and done < len(room):
            # What a pipe has by now, so that a reader who waits for this frame gets it at once.
            part = self._source.readinto(room[done:])  # type: ignore[attr-defined]
            self._ended = not part
            done += part
        if done == len(room):
            task.hazy = image
        else:
            task.is_end = True
            self.rest += done

    def compute(self, task: _RawTask) -> None:
        """Dehazes it."""
        if task.hazy is not None:
            task.dehazed = self._network(task.hazy)

    def write(self, task: _RawTask) -> None:
        """Smooths and writes it."""
        if task.hazy is not None and task.dehazed is not None:
            image = self._smoother(task.hazy, task.dehazed, 1 / _RATE)
            write_output(self._sink, np.ascontiguousarray(image).data.cast("B"))
        task.hazy = task.dehazed = None
