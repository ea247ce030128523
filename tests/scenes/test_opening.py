from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fake_datasets import BORDER, COUNTS, MAKERS, shrink_tables, write

from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.images import FileImages
from ktdn_plugin.scenes.opening import LAYOUTS, open_scenes
from ktdn_plugin.scenes.public_datasets import DATASETS
from ktdn_plugin.scenes.scene_set import SceneSet

SPLITS = {
    "nh-haze": {
        "challenge-train": (1, 45),
        "challenge-val": (46, 50),
        "challenge-test": (51, 55),
        "train-50": (1, 50),
        "test-5": (51, 55),
        "all": (1, 55),
    },
    "nh-haze2": {"train": (1, 25), "train-20": (1, 20), "test-5": (21, 25)},
    "o-haze": {"train": (1, 35), "val": (36, 40), "test": (41, 45), "all": (1, 45)},
    "i-haze": {"train": (1, 25), "val": (26, 30), "test": (31, 35), "all": (1, 35)},
    "dense-haze": {"train": (1, 45), "val": (46, 50), "test": (51, 55), "all": (1, 55)},
}
NUMBERED = [(name, split) for name, splits in SPLITS.items() for split in splits]


@pytest.fixture
def copies(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Gives a fresh small copy of a dataset."""
    shrink_tables(monkeypatch)

    def copy(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        MAKERS[name](folder)
        return folder

    return copy


def refusal(*arguments: object, **flags: object) -> str:
    with pytest.raises(KTDNError) as caught:
        open_scenes(*arguments, **flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files(scenes: SceneSet) -> list[tuple[Path, Path]]:
    hazy, clear = scenes.files("hazy"), scenes.files("clear")
    return [(hazy[a], clear[b]) for a, b in scenes.pairs]


def names(scenes: SceneSet) -> list[tuple[str, str]]:
    return [(hazy.name, clear.name) for hazy, clear in files(scenes)]


def keys(scenes: SceneSet) -> list[str]:
    return [scenes.name_of(number) for number in range(len(scenes.pairs))]


def test_tables_say_what_is_published() -> None:
    counts = {
        name: (known.counts["hazy"], known.counts["clear"]) for name, known in DATASETS.items()
    }
    assert counts == {
        "nh-haze": (55, 55),
        "nh-haze2": (25, 25),
        "o-haze": (45, 45),
        "i-haze": (35, 35),
        "dense-haze": (55, 55),
        "reside-its": (13990, 1399),
        "reside-ots": (72135, 2061),
        "sots-indoor": (500, 50),
        "sots-outdoor": (500, 492),
    }
    for name in ("nh-haze", "nh-haze2", "dense-haze"):
        assert DATASETS[name].sizes == {"hazy": ((1200, 1600),), "clear": ((1200, 1600),)}
    for name in ("reside-its", "sots-indoor"):
        assert DATASETS[name].center == (460, 620)
        assert DATASETS[name].sizes == {"hazy": ((460, 620),), "clear": ((480, 640), (460, 620))}


@pytest.mark.parametrize(("name", "split"), NUMBERED)
def test_splits_of_numbered_pairs(name: str, split: str, copies) -> None:
    scenes = open_scenes(copies(name), name, split)
    first, last = SPLITS[name][split]
    assert scenes.missing == []
    assert (scenes.dataset, scenes.split) == (name, split)
    assert [(int(a[:2]), int(b[:2])) for a, b in names(scenes)] == [
        (number, number) for number in range(first, last + 1)
    ]
    for pair in files(scenes):
        sides = [str(path).lower() for path in pair]
        assert "hazy" in Path(sides[0]).name or "/hazy/" in sides[0]
        assert "gt" in Path(sides[1]).name or "/gt/" in sides[1]
    assert len(set(keys(scenes))) == len(scenes.pairs)


@pytest.mark.parametrize("name", COUNTS)
def test_many_hazy_images_share_a_clear_one(name: str, copies) -> None:
    scenes = open_scenes(copies(name), name)
    assert scenes.missing == []
    assert scenes.split == "all"
    assert (len(scenes.hazy), len(scenes.clear)) == COUNTS[name]
    assert scenes.pairs[:, 0].tolist() == list(range(len(scenes.hazy)))
    for hazy, clear in names(scenes):
        assert Path(hazy).stem.split("_")[0] == Path(clear).stem
    assert len(set(keys(scenes))) == len(scenes.pairs)
    assert not {"outdoor", "trans"} & {path.parent.parent.name for path in scenes.files("clear")}


def test_training_sets_of_reside_go_by_either_name(copies) -> None:
    root = copies("reside-its")
    one, other = (open_scenes(root, "reside-its", split) for split in ("train", "all"))
    assert files(one) == files(other)


@pytest.mark.parametrize("name", ["reside-its", "sots-indoor"])
def test_border_of_clear_indoor_images_is_cut_off(name: str, copies) -> None:
    scenes = open_scenes(copies(name), name)
    whole, part = FileImages(scenes.files("clear")), scenes.clear
    assert whole.size(0) == BORDER
    assert part.size(0) == (6, 8)
    assert (part.read(0) == whole.read(0)[1:7, 2:10]).all()


def test_variants_are_in_order(copies) -> None:
    scenes = open_scenes(copies("sots-indoor"), "sots-indoor")
    assert keys(scenes)[:11] == [*(f"1400_{index}" for index in range(1, 11)), "1401_1"]


@pytest.mark.parametrize("folders", ["{side}/{name}", "a/b/{name}", "x/{side}/y/{name}"])
def test_depth_does_not_matter(folders: str, copies, tmp_path: Path) -> None:
    for path in copies("nh-haze").iterdir():
        side = "hazy" if "hazy" in path.name else "GT"
        to = tmp_path / "nh" / folders.format(side=side, name=path.name)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, to)
    assert len(open_scenes(tmp_path / "nh", "nh-haze", "all").pairs) == 55


def test_clear_images_alone(copies) -> None:
    root = copies("nh-haze")
    for path in root.glob("*_hazy.png"):
        path.unlink()
    scenes = open_scenes(root, "nh-haze", "train-50", clear_only=True)
    assert (len(scenes.clear), scenes.hazy, scenes.pairs) == (50, None, None)
    assert scenes.missing == []
    assert "01_hazy.png is missing" in refusal(root, "nh-haze", "train-50")


def test_several_splits_need_a_choice(copies) -> None:
    message = refusal(copies("nh-haze"), "nh-haze")
    for split in SPLITS["nh-haze"]:
        assert split in message
    assert "46-50, validation images of the NTIRE 2020 challenge" in message


def test_near_misses_are_guessed(tmp_path: Path) -> None:
    assert "did you mean 'challenge-val'?" in refusal(tmp_path, "nh-haze", "chalenge-val")
    assert "did you mean 'dense-haze'?" in refusal(tmp_path, "densehaze")
    assert all(name in refusal(tmp_path, "unheard-of") for name in LAYOUTS)


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda root: (root / "07_GT.png").unlink(), "07_GT.png is missing"),
        (
            lambda root: write(root / "09_hazy.png", 1, (3, 4)),
            "09_hazy.png: 4 x 3 instead of",
        ),
        (
            lambda root: (write(root / "11_hazy.jpg", 1), (root / "11_hazy.png").unlink()),
            "11_hazy.jpg: in place of 11_hazy.png",
        ),
        (
            lambda root: shutil.copy(root / "13_GT.png", root / "13_hazy.png"),
            "13_hazy.png: the same file as 13_GT.png",
        ),
        (lambda root: write(root / "56_GT.png", 1), "56_GT.png: more than NH-HAZE has"),
        (lambda root: write(root / "cat.png", 1), "cat.png: no image of NH-HAZE"),
        (lambda root: write(root / "01.png", 1), "01.png: no image of NH-HAZE"),
        (lambda root: write(root / "b/01_GT.png", 9), "b/01_GT.png: another image than 01_GT.png"),
        (lambda root: write(root / "GT/01_hazy.png", 9), "GT/01_hazy.png: no image of NH-HAZE"),
        (lambda root: (root / "15_GT.png").write_bytes(b""), "15_GT.png: empty file"),
    ],
)
def test_incomplete_and_altered_copies_are_refused(harm, line: str, copies) -> None:
    root = copies("nh-haze")
    harm(root)
    message = refusal(root, "nh-haze", "challenge-train")
    assert "nh-haze/challenge-train is incomplete or altered, 1 problem" in message
    assert line in message
    assert "--allow-incomplete" in message
    scenes = open_scenes(root, "nh-haze", "challenge-train", allow_incomplete=True)
    assert len(scenes.missing) == 1
    assert line in scenes.missing[0]
    left_out = any(word in line for word in ("missing", "same file", "empty", "4 x 3"))
    assert len(scenes.pairs) == 45 - left_out
    assert all(int(a[:2]) == int(b[:2]) for a, b in names(scenes))


def test_harm_outside_the_split_does_not_matter(copies) -> None:
    root = copies("nh-haze")
    (root / "55_GT.png").unlink()
    write(root / "54_GT.png", 1, (3, 4))
    assert open_scenes(root, "nh-haze", "challenge-train").missing == []
    assert "2 problems" in refusal(root, "nh-haze", "challenge-test")


def test_long_lists_are_cut_short_in_the_message_only(copies) -> None:
    root = copies("nh-haze")
    for number in range(1, 31):
        (root / f"{number:02}_hazy.png").unlink()
    message = refusal(root, "nh-haze", "all")
    assert "30 problems" in message
    assert "10_hazy.png is missing; and 20 more ('ktdn check-data" in message
    assert "--dataset nh-haze --split all' lists them all)" in message
    assert "11_hazy.png" not in message
    assert len(open_scenes(root, "nh-haze", "all", allow_incomplete=True).missing) == 30


def test_the_same_file_twice_does_no_harm(copies) -> None:
    root = copies("nh-haze")
    (root / "train").mkdir()
    for number in range(1, 46):
        shutil.copy(root / f"{number:02}_GT.png", root / "train")
    assert len(open_scenes(root, "nh-haze", "all").clear) == 55


def test_dangling_link_is_named(copies) -> None:
    root = copies("o-haze")
    (root / "hazy/02_outdoor_hazy.jpg").unlink()
    (root / "hazy/02_outdoor_hazy.jpg").symlink_to(root / "gone.jpg")
    message = refusal(root, "o-haze", "all")
    assert "02_outdoor_hazy.jpg: No such file" in message


def test_names_alone_can_be_looked_at(copies) -> None:
    root = copies("nh-haze")
    for path in root.iterdir():
        path.write_bytes(b"")
    assert len(open_scenes(root, "nh-haze", "all", check_files=False).pairs) == 55


@pytest.mark.parametrize(
    ("name", "harm", "line"),
    [
        ("reside-its", "hazy/2_7_0.75.png", "2_7_*.png is missing"),
        ("reside-its", "clear/3.png", "3.png is missing"),
        ("reside-ots", "part1/0005_0.8_0.04.jpg", "0005.jpg has 34 hazy images instead of 35"),
        ("reside-ots", "clear/8969.jpg", "8969.jpg is missing"),
        ("sots-indoor", "indoor/hazy/1449_10.png", "1449_10.png is missing"),
        ("sots-outdoor", "hazy/0002_0.8_0.08.jpg", "0002.png has 0 hazy images"),
        ("sots-outdoor", "gt/0001.png", "1 clear images instead of 2"),
    ],
)
def test_incomplete_copies_of_reside_are_refused(name: str, harm: str, line: str, copies) -> None:
    root = copies(name)
    (root / harm).unlink()
    assert line in refusal(root, name)
    scenes = open_scenes(root, name, allow_incomplete=True)
    assert 0 < len(scenes.pairs) < COUNTS[name][0]
    assert line in scenes.missing


def test_whole_its_is_listed(tmp_path: Path) -> None:
    for side in ("hazy", "clear"):
        (tmp_path / side).mkdir()
    for number in range(1, 1400):
        (tmp_path / f"clear/{number}.png").touch()
        for index in range(1, 11):
            (tmp_path / f"hazy/{number}_{index}_0.9.png").touch()
    scenes = open_scenes(tmp_path, "reside-its", check_files=False)
    assert (len(scenes.hazy), len(scenes.clear), scenes.missing) == (13990, 1399, [])
    (tmp_path / "hazy/1399_10_0.9.png").unlink()
    assert "1 problem: 1399_10_*.png is missing" in refusal(
        tmp_path, "reside-its", check_files=False
    )


def test_another_dataset_is_not_mistaken_for_this_one(copies, tmp_path: Path) -> None:
    message = refusal(copies("o-haze"), "i-haze", "all")
    assert "contains no image of i-haze/all" in message
    assert DATASETS["i-haze"].page in message
    assert "no such folder" in refusal(tmp_path / "absent", "nh-haze", "all")
    archive = tmp_path / "NH-HAZE.zip"
    archive.touch()
    assert "unpack it" in refusal(archive, "nh-haze", "all")


@pytest.mark.parametrize(
    ("hazy", "clear"),
    [
        ("hazy/{}.png", "clear/{}.png"),
        ("Hazy/a/{}_hazy.png", "GT/a/{}_GT.jpg"),
        ("haze/{}.v1.png", "clean/{}.v1.png"),
        ("INPUT/{}-input.jpg", "target/{}.png"),
    ],
)
def test_folders_pair_by_name(hazy: str, clear: str, tmp_path: Path) -> None:
    write_three(tmp_path, hazy, clear)
    scenes = open_scenes(tmp_path, "folders")
    assert (scenes.title, len(scenes.pairs), len(scenes.clear)) == (
        f"folders/{tmp_path.name}",
        3,
        3,
    )
    for (a, b), key in zip(files(scenes), keys(scenes), strict=True):
        assert a == tmp_path / hazy.format(Path(key).name[0])
        assert b == tmp_path / clear.format(Path(key).name[0])
    alone = open_scenes(tmp_path, "folders", "mine", clear_only=True)
    assert (alone.title, len(alone.clear), alone.hazy) == ("folders/mine", 3, None)
    assert open_scenes(tmp_path).title == ""


def write_three(root: Path, hazy: str, clear: str) -> None:
    for seed, key in enumerate("xyz"):
        write(root / hazy.format(key), seed)
        write(root / clear.format(key), 10 + seed)


def test_folders_can_be_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_three(root, "smoke/{}.png", "sun/{}.png")
    smoke, sun = root / "smoke", root / "sun"
    assert len(open_scenes(root, hazy=smoke, clear=sun)) == 3
    assert len(open_scenes(sun, hazy=smoke)) == 3
    assert "nowhere: no such folder" in refusal(sun, hazy=root / "nowhere")
    assert "did you mean 'smoke'?" in refusal(sun, hazy=root / "smok")
    place = tmp_path / "store"
    assert prepare(root, place, hazy="smoke", clear=sun).counts == {"hazy": 3, "clear": 3}
    for words, said in (
        ({"hazy": "nowhere", "clear": "sun"}, "nowhere"),
        ({"hazy": "smoke"}, "--gt"),
        ({"dataset": "nh-haze", "split": "all", "hazy": "smoke"}, "--hazy and --gt"),
    ):
        with pytest.raises(KTDNError, match=said):
            prepare(root, tmp_path / "another", **words)


def test_folder_without_sides_holds_clear_images(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"{'ab'[seed % 2]}/{seed}.png", seed)
    scenes = open_scenes(tmp_path)
    assert [scene.name for scene in scenes] == ["a/0", "a/2", "b/1"]
    assert scenes.hazy is None


def test_unpaired_images_are_named(tmp_path: Path) -> None:
    write_three(tmp_path, "hazy/{}.png", "clear/{}.png")
    write(tmp_path / "hazy/more.png", 1)
    (tmp_path / "hazy/y.png").unlink()
    message = refusal(tmp_path)
    assert "hazy/more.png has no clear image; clear/y.png has no hazy image" in message
    scenes = open_scenes(tmp_path, allow_incomplete=True)
    assert keys(scenes) == ["x", "z"]
    assert len(scenes.missing) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ("train/hazy/a.png", "train/clear/a.png", "val/hazy/a.png", "val/clear/a.png"),
            "hazy images are in subfolders",
        ),
        (("train/hazy/a.png", "clear/a.png"), "no folder of clear ones"),
        (
            ("hazy/a.png", "gt/a.png", "clear/a.png"),
            "'clear' and 'gt' could both hold the clear images",
        ),
        (("hazy/a.png", "other/a.png"), "no folder of clear ones"),
        (("a.png", "a.jpg"), "a.jpg and a.png count as the same image"),
        (("hazy/a.png", "clear/b.png"), "not all images have a partner"),
        (("hazy/a.png", "hazy/a.jpg", "clear/a.png"), "hazy/a.jpg and hazy/a.png could both be"),
        (("notes.txt",), "holds no image"),
    ],
)
def test_unclear_folders_are_refused(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    for seed, file in enumerate(files):
        if file.endswith(".txt"):
            (tmp_path / file).touch()
        else:
            write(tmp_path / file, seed)
    assert said in refusal(tmp_path)


def test_split_of_folders_is_named_after_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("fog", "fog"), ("a\\b\nc", "a_b_c"), (" ", "all")):
        write(tmp_path / folder / "a.png", 1)
        assert open_scenes(tmp_path / folder, "folders").split == name
    monkeypatch.chdir(tmp_path / "fog")
    assert open_scenes(".", "folders").title == "folders/fog"


@pytest.mark.parametrize(
    ("name", "hazy", "clear"),
    [
        ("o-haze", "hazy/{:02}_outdoor_hazy.jpg", "GT/{:02}_outdoor_GT.JPG"),
        ("i-haze", "# I-HAZY/hazy/{:02}_indoor_hazy.jpg", "# I-HAZY/GT/{:02}_indoor_GT.jpg"),
    ],
)
def test_all_that_is_wrong_is_reported_at_once(name: str, hazy: str, clear: str, copies) -> None:
    root = copies(name)
    write(root / hazy.format(2), 1, (9, 8))
    (root / clear.format(3)).unlink()
    (root / hazy.format(5)).write_bytes(b"")
    (root / clear.format(6)).unlink()
    os.mkfifo(root / clear.format(6))
    lines = [
        f"{Path(clear.format(3)).stem}.jpg is missing",
        f"{hazy.format(2)}: 8 x 9, but {clear.format(2)} is 8 x 6",
        f"{hazy.format(5)}: empty file (0 bytes)",
        f"{clear.format(6)}: not a regular file",
    ]
    message = refusal(root, name, "train")
    assert "4 problems" in message
    scenes = open_scenes(root, name, "train", allow_incomplete=True)
    assert len(scenes.missing) == 4
    for line in lines:
        assert line in message
        assert any(each.startswith(line) for each in scenes.missing)
    left = [int(a[:2]) for a, _ in names(scenes)]
    assert left == [1, 4, *range(7, SPLITS[name]["train"][1] + 1)]


def test_unequal_and_unreadable_pairs_of_reside_are_left_out(copies) -> None:
    root = copies("sots-outdoor")
    write(root / "hazy/0001_0.8_0.08.jpg", 1, (7, 8))
    (root / "gt/0002.png").write_bytes(b"no picture")
    scenes = open_scenes(root, "sots-outdoor", allow_incomplete=True)
    assert [a for a, _ in names(scenes)] == ["0001_0.8_0.12.jpg"]
    assert len(scenes.missing) == 2


def test_names_to_look_for_begin_with_the_first(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    assert "such as 1400_*.png and 1400.png" in refusal(tmp_path, "sots-indoor")
    assert "such as 46_hazy.png and 46_GT.png" in refusal(tmp_path, "nh-haze", "challenge-val")


@pytest.mark.parametrize("split", ["a/b", "", "a\\b"])
def test_a_split_of_folders_is_a_plain_name(split: str, tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    assert "without slashes" in refusal(tmp_path, split=split)
