"""Images that cannot be read: which ones stand in, and how many may be missing."""

from __future__ import annotations

import pytest

from ktdn_plugin.data.order import SampleDraw
from ktdn_plugin.data.skipping import FAILURES, SkipCount, SkippingDataset
from ktdn_plugin.errors import KTDNError


class Images:
    """A dataset some of whose images cannot be read."""

    def __init__(self, count: int, broken: set[int]) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, draw: SampleDraw) -> dict:
        if draw.sample in self.broken:
            raise KTDNError(f"{draw.sample:02}.png: two\nlines")
        return {"epoch": draw.epoch, "sample": draw.sample}


def test_the_next_one_stands_in_and_all_skipped_are_reported() -> None:
    dataset = SkippingDataset(Images(6, {1, 4, 5}))
    assert len(dataset) == 6
    assert dataset[SampleDraw(3, 2)] == {"epoch": 3, "sample": 2, FAILURES: ""}
    assert dataset[SampleDraw(3, 1)] == {"epoch": 3, "sample": 2, FAILURES: "1 01.png: two\\nlines"}
    failures = "4 04.png: two\\nlines\n5 05.png: two\\nlines"
    assert dataset[SampleDraw(3, 4)] == {"epoch": 3, "sample": 0, FAILURES: failures}


def test_it_gives_up_after_many_in_a_row() -> None:
    dataset = SkippingDataset(Images(100, set(range(30, 50))))
    assert dataset[SampleDraw(0, 31)]["sample"] == 50
    with pytest.raises(KTDNError, match=r"^20 images in a row cannot be read; the last one: 49"):
        dataset[SampleDraw(0, 30)]


@pytest.mark.parametrize(
    ("images", "at_most", "allowed"), [(1000, 0.002, 2), (6, 0.01, 1), (6, 0.4, 2), (6, 0.0, 0)]
)
def test_more_than_may_be_missing(images: int, at_most: float, allowed: int) -> None:
    told: list[str] = []
    skipped = SkipCount(images, at_most, told.append)
    for number in range(allowed):
        batch = {FAILURES: ["", f"{number} {number}.png: cut off"], "lq": 1}
        skipped.note(batch)
        assert batch == {"lq": 1}
        skipped.note({FAILURES: [f"{number} {number}.png: cut off"]})  # in the next epoch
    assert len(skipped) == len(told) == allowed
    with pytest.raises(KTDNError, match=f"^{allowed + 1} of {images} .* the last one: 9.png: cut"):
        skipped.note({FAILURES: ["9 9.png: cut off"]})
    assert told[-1] == (
        f"skipped, {allowed + 1} of {images} training images so far: 9.png: cut off"
    )
    skipped.note({"lq": 1})  # of a dataset that skips nothing
