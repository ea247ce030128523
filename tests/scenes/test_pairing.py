"""Which clear image belongs to each hazy one, by keys alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.scenes.pairing import ImageKeys, Pairing, pair


def named(keys: list[str]) -> list[ImageKeys]:
    return [ImageKeys(f"<{key}>", [key]) for key in keys]


def paired(hazy: list[str], clear: list[str]) -> tuple[dict[str, str], list[str]]:
    """Pairs by their keys, and all that is wrong."""
    pairing: Pairing = pair(named(hazy), named(clear))
    pairs = {hazy[h]: clear[c] for h, c in enumerate(pairing.partners) if c is not None}
    assert len(pairs) + len(pairing.faults) == len(hazy)
    return pairs, [*pairing.hazy_problems(), *pairing.clear_problems(named(clear))]


def test_equal_names_go_before_beginnings() -> None:
    keys = ["1400", "1400_1", "1400_10", "1400_1_0.2"]
    assert paired(keys, keys) == ({key: key for key in keys}, [])
    levels = {"1400_1_0.8": "1400_1", "1400_10_0.8": "1400_10"}
    assert paired(list(levels), ["1400_1", "1400_10"]) == (levels, [])
    several = {"1400_1": "1400", "1400_10": "1400", "0001_0.8_0.2": "0001"}
    assert paired(list(several), ["1400", "0001"]) == (several, [])


def test_a_number_of_its_own_is_no_haze_level_where_the_scene_has_its_hazy_image() -> None:
    assert paired(["scene", "scene_2"], ["scene"]) == (
        {"scene": "scene"},
        ["<scene_2> has no clear image (<scene> is that of <scene>)"],
    )


@pytest.mark.parametrize(
    ("hazy", "clear", "problem"),
    [
        (["1_hazy"], ["1_GT", "1_clear"], "<1_GT> and <1_clear> could both be the clear image of"),
        (["1", "1_hazy"], ["1_GT"], "<1> and <1_hazy> could both be the hazy image of <1_GT>"),
        (["a/1"], ["b/1"], "<a/1> has no clear image"),
        (["a/1", "b/1"], ["1"], "<a/1> has no clear image"),
        (["011"], ["01"], "<011> has no clear image"),
    ],
)
def test_ambiguous_and_unpaired(hazy: list[str], clear: list[str], problem: str) -> None:
    pairs, problems = paired(hazy, clear)
    assert pairs == {}
    assert problems[0].startswith(problem)


@given(st.sets(st.text("ab1_.", min_size=1, max_size=4), min_size=1, max_size=6))
def test_equal_keys_pair_whatever_they_are(keys: set[str]) -> None:
    assert paired(sorted(keys), sorted(keys)) == ({key: key for key in keys}, [])
