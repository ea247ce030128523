from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin import sheets
from ktdn_plugin.sheets import comparison_sheet

RED, GREEN, BLUE = (230, 10, 10), (10, 230, 10), (10, 10, 230)


def plain(colour: tuple[int, int, int], height: int = 60, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def box(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Where a colour is: top, bottom, left, right, the ends excluded."""
    rows, columns = np.nonzero((sheet == colour).all(2))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def has_ink(area: np.ndarray) -> bool:
    return bool(area.min() < 90)


def test_images_stand_side_by_side_unscaled_where_they_fit() -> None:
    sheet = comparison_sheet([[(plain(RED), "a"), (plain(GREEN), "b"), (plain(BLUE), "c")]])
    assert sheet.dtype == np.uint8
    boxes = [box(sheet, colour) for colour in (RED, GREEN, BLUE)]
    assert {(top, bottom) for top, bottom, _, _ in boxes} == {boxes[0][:2]}
    for top, bottom, left, right in boxes:
        assert (bottom - top, right - left) == (60, 200)
    assert boxes[0][3] < boxes[1][2]
    assert boxes[1][3] < boxes[2][2]


def test_header_above_and_captions_below_each_image() -> None:
    sheet = comparison_sheet([[(plain(RED), "hazy  12.31 dB / 0.612"), (plain(BLUE), "")]], "hc")
    for colour, captioned in ((RED, True), (BLUE, False)):
        top, bottom, left, right = box(sheet, colour)
        assert has_ink(sheet[:top, left:right])
        assert has_ink(sheet[bottom:, left:right]) == captioned


def test_text_is_smooth() -> None:
    sheet = comparison_sheet([[(plain(sheets.PAPER), "hazy")]], ["hazy"])
    assert len(np.unique(sheet)) > 10


def test_margins_are_neutral_and_empty() -> None:
    sheet = comparison_sheet([[(plain(RED), "a" * 200)], [(plain(BLUE, 5, 3), "b")]], ["c" * 200])
    gap = sheets.GAP
    for edge in (sheet[:gap], sheet[-gap:], sheet[:, :gap], sheet[:, -gap:]):
        assert (edge == sheets.PAPER).all()


def test_large_images_shrink_to_the_cell_and_keep_their_shape() -> None:
    sheet = comparison_sheet(
        [[(plain(RED, 600, 800), ""), (plain(BLUE, 600, 800), "")]], "ab", max_cell_width=100
    )
    for colour in (RED, BLUE):
        top, bottom, left, right = box(sheet, colour)
        assert (bottom - top, right - left) == (75, 100)


def test_images_of_one_row_become_equally_tall() -> None:
    sheet = comparison_sheet([[(plain(RED, 40, 60), ""), (plain(BLUE, 80, 120), "")]], "ab")
    assert box(sheet, RED)[:2] == box(sheet, BLUE)[:2]
    assert box(sheet, RED)[1] - box(sheet, RED)[0] == 80


def test_rows_of_different_sizes_share_columns() -> None:
    sheet = comparison_sheet(
        [[(plain(RED, 50, 90), "x")], [(plain(GREEN, 20, 300), "y")], [(plain(BLUE, 1, 1), "z")]],
        ["one"],
    )
    centres = [sum(box(sheet, colour)[2:]) / 2 for colour in (RED, GREEN, BLUE)]
    assert max(centres) - min(centres) <= 1
    assert box(sheet, RED)[1] < box(sheet, GREEN)[0]
    assert box(sheet, GREEN)[1] < box(sheet, BLUE)[0]


def test_caption_wider_than_its_image_widens_the_column() -> None:
    sheet = comparison_sheet([[(plain(RED, 30, 30), "hazy  12.31 dB / 0.612")]], ["hazy"])
    assert sheet.shape[1] > 150


def test_endless_caption_is_cut_to_the_cell() -> None:
    sheet = comparison_sheet([[(plain(RED), "w" * 500)]], ["hazy"], max_cell_width=250)
    assert sheet.shape[1] <= 250 + 2 * sheets.GAP


def test_unusual_captions_are_drawn() -> None:
    comparison_sheet([[(plain(RED), "Nebel über 霧\nzweite Zeile\t•")]], ["ü"])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=2, max_size=2),
    cell=st.integers(32, 200),
)
def test_any_image_sizes_fit(sizes: list[tuple[int, int]], cell: int) -> None:
    row = [(plain(RED, *size), "caption") for size in sizes]
    sheet = comparison_sheet([row], "ab", max_cell_width=cell)
    assert sheet.shape[1] <= 2 * cell + 3 * sheets.GAP


@pytest.mark.parametrize(
    ("rows", "columns", "error"),
    [
        ([], ["a"], ValueError),
        ([[]], [], ValueError),
        ([[(plain(RED), "a")]], ["a", "b"], ValueError),
        ([[(plain(RED)[..., 0], "a")]], ["a"], ValueError),
        ([[(plain(RED)[:0], "a")]], ["a"], ValueError),
        ([[(plain(RED) / 255, "a")]], ["a"], TypeError),
        ([[("image.png", "a")]], ["a"], TypeError),
    ],
)
def test_unfit_rows_are_refused(
    rows: list[list[tuple[np.ndarray, str]]], columns: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        comparison_sheet(rows, columns)
    assert "\n" not in str(caught.value)


def test_too_small_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="max_cell_width"):
        comparison_sheet([[(plain(RED), "a")]], ["a"], max_cell_width=8)
