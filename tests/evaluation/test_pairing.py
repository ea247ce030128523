"""Which image belongs to which ground truth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.pairing import SceneNames


def paired(clear: list[str], names: list[str], hazy: list[str] | None = None) -> list[str]:
    """The names that the ground truths get, in their order."""
    pairing = SceneNames(clear, hazy, "gt").pair(names, "results")
    assert sorted([*pairing.numbers, *pairing.extra]) == list(range(len(names)))
    return [names[number] for number in pairing.numbers]


def refused(clear: list[str], names: list[str], hazy: list[str] | None = None) -> str:
    with pytest.raises(KTDNError) as caught:
        paired(clear, names, hazy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "01_GT.png", "01_GT.jpg", "01.png", "01_gt.png", "01_hazy.png", "01_dehazed.webp",
        "01-ours.png", "01.out.png", "01 (dehazed).png", "01_hazy_ktdn_test.png",
        "01_ktdn_test.png",
    ],
)  # fmt: skip
def test_usual_names_of_a_result(name: str) -> None:
    assert paired(["01_GT.png", "11_GT.png"], ["a/" + name, "11_x.png"]) == [
        "a/" + name,
        "11_x.png",
    ]
    hazy = ["01_hazy.png", "11_hazy.png"]
    assert paired(["01_GT.png", "11_GT.png"], [name, "11.png"], hazy) == [name, "11.png"]


@pytest.mark.parametrize("name", ["011.png", "01_2.png", "1.png", "x01.png", "GT.png", "01x.png"])
def test_names_of_something_else(name: str) -> None:
    line = refused(["01_GT.png"], [name])
    assert line.startswith("results: has no image for '01_GT' of gt; names must match, or start")
    assert "'01_dehazed'" in line


def test_an_equal_name_goes_first() -> None:
    scenes = SceneNames(["01.png", "02.png"], None, "gt")
    pairing = scenes.pair(["01_attention.png", "02_out.png", "01.jpg", "notes.png"], "results")
    assert pairing.numbers == [2, 1]
    assert pairing.extra == [0, 3]


def test_the_longest_name_is_meant() -> None:
    clear = ["nh_haze_20.png", "nh_haze_20_1.png", "nh.png"]
    names = ["nh_haze_20_1_out.png", "nh_out.png", "nh_haze_20_out.png"]
    assert paired(clear, names) == [names[2], names[0], names[1]]


def test_two_for_one_and_none_are_named() -> None:
    line = refused(["01_GT.png"], ["01_hazy.png", "01_dehazed.png"])
    assert line == (
        "results: 01_hazy.png, 01_dehazed.png could all be the image of '01_GT' of gt; keep one "
        "of them"
    )
    line = refused(["01.png"], ["a/01.png", "b/01.png"])
    assert "a/01.png, b/01.png could all be the image of '01'" in line
    line = refused([f"{number:02}.png" for number in range(9)], ["00.png", "x.png"])
    assert "no image for '01' (nor of '02', '03'" not in line
    assert "no image for '01' (nor of 02, 03, 04, 05, 06 and 2 more) of gt" in line
    assert "did you mean 'kodim_01'" in refused(["kodim01.png"], ["kodim_01.png"])


def test_one_for_two_is_named() -> None:
    clear = ["01_GT.png", "01_clear.png"]
    line = refused(clear, ["01_GT.png", "01_out.png"])
    assert line == "results: 01_out.png may belong to 01_GT, 01_clear of gt; rename it"
    assert paired(clear, ["01_GT.png", "01_clear.png", "01_out.png"]) == clear


def test_several_hazy_images_of_a_clear_one() -> None:
    clear, hazy = ["1400.png", "1400.png", "1401.png"], ["1400_1.png", "1400_2.png", "1401_1.png"]
    names = ["1401_1_out.png", "1400_2.png", "1400_1_out.png"]
    assert paired(clear, names, hazy) == [names[2], names[1], names[0]]
    assert "no image for '1400_1' (nor of 1400_2)" in refused(
        clear, ["1400.png", "1401_1.png"], hazy
    )


def test_folders_count_where_names_alone_do_not_tell() -> None:
    clear = ["set/a/01.png", "set/b/01.png"]
    names = ["out/b/01_x.png", "out/a/01.png"]
    assert paired(clear, names) == [names[1], names[0]]
    assert [scene.title for scene in SceneNames(clear, None, "gt").scenes] == ["a/01", "b/01"]
    assert "several images are called a/01.png" in refused(["a/01.png", "a/01.jpg"], ["a/01.png"])


def test_titles_are_short_and_differ() -> None:
    scenes = SceneNames(
        ["x/01_GT.png", "x/02_GT.png"], ["y/01_hazy.png", "y/02_hazy.png"], "gt"
    ).scenes
    assert [scene.title for scene in scenes] == ["01", "02"]
    scenes = SceneNames(["01_GT.png", "01_clear.png"], None, "gt").scenes
    assert [scene.title for scene in scenes] == ["01_GT", "01_clear"]


STEMS = st.text("ab12_-", min_size=1, max_size=5)


@given(st.lists(STEMS, min_size=1, max_size=6, unique=True), st.randoms(), st.data())
def test_equal_names_pair_in_any_order_among_others(stems, random, data) -> None:
    others = data.draw(st.lists(STEMS.filter(lambda stem: stem not in stems), unique=True))
    names = [f"{stem}.png" for stem in (*stems, *others)]
    random.shuffle(names)
    clear = [f"{stem}.png" for stem in stems]
    assert paired(clear, names) == clear
