from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ktdn_plugin import pictures
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pictures import comparison_sheet, write_image

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
    sheet = comparison_sheet([[(plain(pictures.PAPER), "hazy")]], ["hazy"])
    assert len(np.unique(sheet)) > 10


def test_margins_are_neutral_and_empty() -> None:
    sheet = comparison_sheet([[(plain(RED), "a" * 200)], [(plain(BLUE, 5, 3), "b")]], ["c" * 200])
    gap = pictures.GAP
    for edge in (sheet[:gap], sheet[-gap:], sheet[:, :gap], sheet[:, -gap:]):
        assert (edge == pictures.PAPER).all()


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
    assert sheet.shape[1] <= 250 + 2 * pictures.GAP


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
    assert sheet.shape[1] <= 2 * cell + 3 * pictures.GAP


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


@pytest.mark.parametrize("name", ["out.png", "out.PNG", "über 霧.png", "new/folders/out.png"])
def test_png_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    image = np.random.RandomState(0).randint(0, 256, (21, 34, 3)).astype(np.uint8)
    write_image(tmp_path / name, image[:, ::-1])
    with Image.open(tmp_path / name) as read:
        assert np.array_equal(np.array(read), image[:, ::-1])


@pytest.mark.parametrize("name", ["out.jpg", "out.JPEG"])
def test_jpeg_comes_back_nearly(name: str, tmp_path: Path) -> None:
    write_image(tmp_path / name, plain(RED))
    with Image.open(tmp_path / name) as read:
        assert read.format == "JPEG"
        assert np.abs(np.array(read).astype(int) - plain(RED)).max() <= 4


def test_existing_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    write_image(path, plain(RED))
    write_image(path, plain(BLUE))
    with Image.open(path) as read:
        assert read.getpixel((0, 0)) == BLUE
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    write_image(tmp_path / "out.png", plain(RED))
    (tmp_path / "usual").touch()
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_failed_writing_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    write_image(path, plain(RED))
    before = path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KTDNError, match="No space left on device"):
        write_image(path, plain(BLUE))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "out.png", tmp_path / "folder.png"):
        with pytest.raises(KTDNError, match=r"cannot be (made|saved|written)") as caught:
            write_image(path, plain(RED))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_write_protected_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(KTDNError, match="Permission denied"):
            write_image(tmp_path / "out.png", plain(RED))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["out", "out.tiff", "out.txt", ".png"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match=r"\.png, \.jpg or \.jpeg"):
        write_image(tmp_path / name, plain(RED))


@pytest.mark.parametrize(
    ("image", "error"),
    [(plain(RED) / 255, TypeError), (plain(RED)[..., 0], ValueError), (None, TypeError)],
)
def test_unfit_arrays_are_refused(
    image: np.ndarray, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        write_image(tmp_path / "out.png", image)
