from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.report.names import Names, key_of

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
