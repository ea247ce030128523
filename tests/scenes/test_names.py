from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.scenes.names import (
    Names,
    clear_beside_hazy,
    key_of,
    side_of_folder,
    side_of_name,
    sides_of_names,
    without_comparisons,
)

PARTS = st.text("ab01", min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("known", "name", "found"),
    [
        (["01", "02"], "02", "02"),
        (["51_hazy", "52_hazy"], "51_hazy", "51_hazy"),
        (["51_GT"], "51_hazy", "51_GT"),
        (["51_GT"], "51_hazy_of_mine", "51_GT"),
        (["coffee", "coffee_cup"], "coffee_cup_demo_test", "coffee_cup"),
        (["1"], "1_2", None),
        (["1"], "12", None),
        (["a/01", "b/01"], "b/01", "b/01"),
        (["a/01", "b/01"], "01", None),
        (["a/01"], "01", "a/01"),
        (["01"], "deep/down/01", "01"),
        (["s2/01"], "s1/01", None),
        (["s2/01"], "s1/01_mine", None),
        (["s1/GT/01_GT"], "s1/hazy/01_hazy", "s1/GT/01_GT"),
        (["GT/01_GT"], "s1/01_hazy", "GT/01_GT"),
        ([], "01", None),
        (["my", "my_set/2"], "my_set/3_x", None),
        (["caf\u00e9_GT"], "cafe\u0301_hazy", "caf\u00e9_GT"),
        (["01_ground_truth"], "01_inputs", "01_ground_truth"),
    ],
)
def test_names_are_found(known: list[str], name: str, found: str | None) -> None:
    assert Names(known).find(name) == found


def test_numbered_hazes_of_a_scene() -> None:
    names = Names(["1400", "14", "1400_1"])
    found = {key: names.match(key, True).names for key in ("1400_10", "1400_1", "1400_1_0.2")}
    assert found == {"1400_10": ["1400"], "1400_1": ["1400_1"], "1400_1_0.2": ["1400_1"]}


@given(st.sets(PARTS, min_size=1, max_size=6))
def test_own_names_and_those_with_an_ending_are_found(known: set[str]) -> None:
    names = Names(known)
    for name in known:
        assert names.find(name) == name
        assert names.find(f"{name}_of-mine") == name


def test_key() -> None:
    assert key_of(Path("/a/b/c.d.png"), Path("/a")) == "b/c.d"
    assert key_of(Path("x.png")) == "x"


def test_words() -> None:
    for word in ("hazy", "Inputs", "LQ"):
        assert (side_of_folder(word), side_of_name(f"01_{word}")) == ("hazy", "hazy")
    for word in ("GT", "ground_truth", "targets"):
        assert (side_of_folder(word), side_of_name(f"01-{word}")) == ("clear", "clear")
    assert (side_of_folder("photos"), side_of_name("photo"), side_of_name("gt")) == (None,) * 3


@pytest.mark.parametrize(
    ("hazy", "clear"),
    [
        (["01_hazy", "02"], ["01_GT", "02_clean"]),
        (["01_hazy", "s/02.haze"], ["01", "s/02"]),
        (["1400_1_hazy", "1400_2_hazy"], ["1400_GT"]),
        (["01", "05"], ["01_GT", "03_GT"]),
    ],
)
def test_sides_by_names(hazy: list[str], clear: list[str]) -> None:
    assert sides_of_names([*clear, *hazy]) == (hazy, clear)
    assert clear_beside_hazy([*clear, *hazy]) == set(clear)


@pytest.mark.parametrize("keys", [["a", "b"], ["01_GT", "02_GT"], ["01_hazy", "02"], ["01_out"]])
def test_names_that_tell_no_sides(keys: list[str]) -> None:
    assert sides_of_names(keys) is None


def test_clear_images_beside_hazy_ones_in_folders() -> None:
    keys = ["hazy/01", "GT/01", "s/lq/2", "s/gt/2", "alone/clear/3", "4"]
    assert clear_beside_hazy(keys) == {"GT/01", "s/gt/2"}


def test_sheets_are_recognised_by_their_neighbours() -> None:
    images = dict.fromkeys(["01", "01_compare", "02_compare", "comparison", "curves"])
    assert list(without_comparisons(images)) == ["01", "02_compare"]
