from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.data.names import Names, is_clear, key_of, sides_of, without_comparisons

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
    ],
)
def test_names_are_found(known: list[str], name: str, found: str | None) -> None:
    assert Names(known).find(name) == found


def test_numbered_hazes_of_a_scene() -> None:
    assert Names(["1400", "14"]).find("1400_10", may_be_numbered=True) == "1400"


@given(st.sets(PARTS, min_size=1, max_size=6))
def test_own_names_and_those_with_an_ending_are_found(known: set[str]) -> None:
    names = Names(known)
    for name in known:
        assert names.find(name) == name
        assert names.find(f"{name}_of-mine") == name


def test_key() -> None:
    assert key_of(Path("/a/b/c.d.png"), Path("/a")) == "b/c.d"
    assert key_of(Path("x.png")) == "x"


def test_one_name_for_several_folders() -> None:
    assert Names(["01", "02"]).find_all(["s1/01", "s2/01", "02"]) == [[], [], ["02"]]
    assert Names(["01"]).find_all(["01", "s2/01"]) == [["01"], []]
    assert Names(["1400"]).find_all(["hazy/1400_1", "hazy/1400_2"], True) == [["1400"]] * 2


def test_sides() -> None:
    told = {
        "01_GT": True,
        "a/01.hazy": False,
        "GT/01": True,
        "x/lq/01": False,
        "clear/1_hazy": False,
    }
    assert {key: is_clear(key) for key in told} == told
    assert is_clear("photo") is None
    assert sides_of(["01_GT", "01_hazy", "02", "02_clean", "03_GT", "04_hazy"]) == (
        {"01_GT", "02_clean"}, {"01_hazy", "02"}
    )  # fmt: skip
    assert sides_of(["hazy/01", "GT/01"]) == ({"GT/01"}, {"hazy/01"})


def test_sheets_are_told_by_what_lies_beside_them() -> None:
    images = dict.fromkeys(["01", "01_compare", "02_compare", "comparison", "curves"])
    assert list(without_comparisons(images)) == ["01", "02_compare"]
