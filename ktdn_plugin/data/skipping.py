"""Training on despite unreadable images: the next one instead, counted and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import Dataset

from ktdn_plugin.data.order import SampleDraw
from ktdn_plugin.errors import KTDNError, printable

AT_MOST = 0.01
"""Share of the training images that may be unreadable."""

FAILURES = "failures"
"""Under which a sample carries what was skipped in its favour."""


class SkippingDataset(Dataset):
    """A dataset that gives the next image in place of one that cannot be read.

    What happened travels with the sample, as a text: a worker has no other way to the process that
    counts, and a queue between them could be left locked by a worker that is killed.

    Args:
        dataset: A dataset of :class:`SampleDraw` whose samples are dictionaries.
    """

    TRIES = 20

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: SampleDraw) -> Any:
        """Returns the sample of a draw, or one behind it.

        Raises:
            KTDNError: If none of many in a row can be read.
        """
        failures = []
        for step in range(self.TRIES):
            number = (draw.sample + step) % len(self)
            try:
                sample = self.dataset[SampleDraw(draw.epoch, number)]
            except KTDNError as error:
                message = printable(str(error))
                failures.append(f"{number} {message}")
            else:
                return {**sample, FAILURES: "\n".join(failures)}
        raise KTDNError(f"{self.TRIES} images in a row cannot be read; the last one: {message}")


class SkipCount:
    """Counts the images that were skipped, each once.

    Args:
        images: Number of the dataset's images.
        at_most: Share of them that may be skipped; above 0, one may be in any case.
        tell: Gets a line for each.
    """

    def __init__(self, images: int, at_most: float, tell: Callable[[str], None]) -> None:
        self.images = images
        self.at_most = at_most
        self.allowed = max(at_most * images, 1) if at_most else 0
        self.tell = tell
        self.skipped: set[int] = set()

    def __len__(self) -> int:
        return len(self.skipped)

    def note(self, batch: dict[str, Any]) -> None:
        """Takes out of a batch what its samples carry of images that were skipped.

        Raises:
            KTDNError: If they are too many by now.
        """
        for failures in batch.pop(FAILURES, ()):
            self._count(failures.splitlines())

    def _count(self, failures: Iterable[str]) -> None:
        for failure in failures:
            number, message = failure.split(" ", 1)
            if int(number) in self.skipped:
                continue
            self.skipped.add(int(number))
            self.tell(f"skipped, {len(self)} of {self.images} training images so far: {message}")
            if len(self) > self.allowed:
                raise KTDNError(
                    f"{len(self)} of {self.images} training images cannot be read, more "
                    f"than skip_at_most: {self.at_most} allows; the last one: {message}"
                )
