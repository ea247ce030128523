"""Every command finds the same pairs in a folder, or says the same of it."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_datasets import MAKERS, shrink_tables
from helpers import ENCODER, make_lmdbs
from PIL import Image

from ktdn_plugin import KTDN
from ktdn_plugin.basicsr.datasets import PairedHazeDataset
from ktdn_plugin.bench.data import find_pairs
from ktdn_plugin.checking.sets import judge_set, open_sets
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.dehaze.inputs import FileSource, find_sources
from ktdn_plugin.dehaze.truth import Truth
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.datasets import PairedHazeDataset as PairedForMMEngine
from ktdn_plugin.report.scenes import Photographs, photographs_of_flags
from ktdn_plugin.scenes.folders import find_folders
from ktdn_plugin.scenes.opening import open_scenes
from ktdn_plugin.scenes.scene_set import SceneSet

Pairs = set[tuple[str, str]]
Finder = Callable[[Path], Pairs]

E_ACUTE = "\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", E_ACUTE)

LAYOUTS: dict[str, dict[str, str]] = {
    "flat, both told": {"01_hazy.png": "01_GT.png", "02_hazy.png": "02_GT.png"},
    "flat, clear ones told": {"01.png": "01_GT.png", "02.png": "02_clean.png"},
    "flat, hazy ones told": {"01_hazy.png": "01.png", "02-haze.png": "02.png"},
    "flat, several hazes": {"7_1_hazy.png": "7_GT.png", "7_10_hazy.png": "7_GT.png"},
    "flat, clear ones first": {"01_lq.png": "01_clean.png", "02_input.png": "02_gt.png"},
    "flat, upper case": {"01_HAZY.PNG": "01_gt.PNG", "02_Hazy.JPG": "02_GT.png"},
    "flat, ground_truth": {"01_inputs.png": "01_ground_truth.png", "2_haze.png": "2_targets.png"},
    "flat, in folders": {"a/1_hazy.png": "a/1_GT.png", "b/1_hazy.png": "b/1_GT.png"},
    "hazy and clear": {"hazy/1.png": "clear/1.png", "hazy/2.png": "clear/2.png"},
    "hazy and GT": {"hazy/1_hazy.png": "GT/1_GT.png"},
    "hazy ones first": {"foggy/1.png": "target/1.png", "foggy/2.png": "target/2.png"},
    "upper case": {"HAZY/1.PNG": "Gt/1.png", "HAZY/2.JPG": "Gt/2.TIFF"},
    "LQ and GT": {"LQ/1.png": "GT/1.png"},
    "INPUTS and Ground_Truth": {"INPUTS/1_Input.png": "Ground_Truth/1_Ground_Truth.png"},
    "ground_truth": {"hazy/1.png": "ground_truth/1.png"},
    "groundtruth": {"haze/1.png": "groundtruth/1.png"},
    "inputs and targets": {"inputs/1.png": "targets/1.png"},
    "input and target": {"Input/1.png": "Target/1.png"},
    "lq and gt": {"lq/1.png": "gt/1.png"},
    "deeper": {"set/train/hazy/1.png": "set/train/clear/1.png"},
    "deeper, folders in folders": {
        "set/train/hazy/a/1.png": "set/train/GT/a/1_GT.png",
        "set/train/hazy/b/1.png": "set/train/GT/b/1_GT.png",
    },
    "folders in folders": {"hazy/a/1.png": "GT/a/1_GT.png", "hazy/b/1.png": "GT/b/1_GT.png"},
    "several hazes": {
        "hazy/1400_1.png": "clear/1400.png",
        "hazy/1400_2.png": "clear/1400.png",
        "hazy/1400_10.png": "clear/1400.png",
        "hazy/0001_0.8_0.2.jpg": "clear/0001.png",
    },
    "numbered scenes": {
        "hazy/1400.png": "clear/1400.png",
        "hazy/1400_1.png": "clear/1400_1.png",
        "hazy/1400_10.png": "clear/1400_10.png",
        "hazy/1400_2_0.5.png": "clear/1400_2.png",
    },
    "spaces and dots": {
        "my set.v2/hazy/a.b.c.png": "my set.v2/clear/a.b.c.jpg",
        "my set.v2/hazy/My house 1.png": "my set.v2/clear/My house 1.png",
        "my set.v2/hazy/My house 2 hazy.png": "my set.v2/clear/My house 2.GT.png",
    },
    "unusual names": {
        "hazy/My photo.v1 (2).PNG": "clear/My photo.v1 (2).JPG",
        f"hazy/caf{E_ACUTE}_hazy.png": f"clear/caf{DECOMPOSED}_GT.TIFF",
        "hazy/\u9727_HAZY.png": "clear/\u9727-gt.bmp",
    },
}

PROBLEMS: dict[str, tuple[list[str], str]] = {
    "a hazy one without": (
        ["hazy/1.png", "hazy/2.png", "clear/1.png"],
        "hazy/2.png has no clear image",
    ),
    "a flat one without": (
        ["1_hazy.png", "2_hazy.png", "1_GT.png"],
        "2_hazy.png has no clear image",
    ),
    "an image that no word tells": (["1_hazy.png", "1_GT.png", "2.png"], "2.png has no clear"),
    "another scene's number": (
        ["hazy/1.png", "hazy/1_2.png", "clear/1.png"],
        "hazy/1_2.png has no clear image (",
    ),
    "two clear ones": (
        ["hazy/1_hazy.png", "clear/1_GT.png", "clear/1_clean.png"],
        " could both be the clear image of ",
    ),
    "two hazy ones": (
        ["hazy/1.png", "hazy/1_hazy.png", "clear/1_GT.png"],
        " could both be the hazy image of ",
    ),
    "two folders of clear ones": (
        ["hazy/1.png", "gt/1.png", "clear/1.png"],
        "'clear' and 'gt' could both hold the clear images; say which: --gt",
    ),
    "no folder of clear ones": (
        ["hazy/1.png", "other/1.png"],
        "its folder 'hazy' holds hazy images, but there is no folder of clear ones beside it",
    ),
}


def write(root: Path, names: Iterable[str]) -> None:
    """Writes images each of which is of a grey of its own."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (8 + 16 * number,) * 3).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def pairs_of(scenes: SceneSet) -> Pairs:
    assert scenes.hazy is not None
    assert scenes.pairs is not None
    return {(scenes.hazy.name(h), scenes.clear.name(c)) for h, c in scenes.pairs}


def by_prepare(root: Path, **options: object) -> Pairs:
    place = root.parent / "store"
    prepare(root, place, **options)
    return by_check(place)


def by_check(place: Path, *dataset: str) -> Pairs:
    pairs: Pairs = set()
    for found in open_sets([place], *(dataset[:1] or (None,)), dataset[1:]):
        if findings := judge_set(found):
            raise KTDNError("; ".join(str(finding) for finding in findings))
        if found.hazy is not None:
            pairs |= pairs_of(found)
    return pairs


def by_evaluate(place: Path, dataset: str | None = None, split: str | None = None) -> Pairs:
    return pairs_of(open_scenes(place, dataset, split, may_be_alone=("hazy",)))


def by_report(place: Path) -> Pairs:
    return shown(photographs_of_flags(None, place), place)


def shown(photographs: Photographs, place: Path) -> Pairs:
    """Tells the clear images that a report would show by their greys."""
    greys = {
        path: np.array(Image.open(path))[0, 0, 0] for path in place.rglob("*.*") if path.is_file()
    }
    pairs = set()
    for one in photographs.photographs.values():
        assert one.clear is not None
        clear = one.clear()
        assert clear is not None
        others = {path: abs(int(grey) - int(clear[0, 0, 0])) for path, grey in greys.items()}
        pairs.add((one.identity, str(min(others, key=lambda path: others[path]))))
    return pairs


def by_dehaze(place: Path, truth: Path | None = None) -> Pairs:
    sources, _ = find_sources([place], place.parent / "out")
    found = Truth(truth or place, None, sources)
    found.check_any()
    pairs = set()
    for source in found.sources:
        clear = found.clear_of(source)
        assert isinstance(source, FileSource)
        assert clear is not None
        pairs.add((str(source.path), str(clear.path)))
    return pairs


def by_basicsr(place: Path, **options: str) -> Pairs:
    opt = {"phase": "val", "dataroot_gt": str(place), **(options or {"layout": "folders"})}
    return pairs_of(PairedHazeDataset(opt).images)


def by_mmengine(place: Path, **options: str) -> Pairs:
    return pairs_of(PairedForMMEngine(str(place), **(options or {"layout": "folders"})).images)


FINDERS: dict[str, Finder] = {
    finder.__name__: finder
    for finder in (by_check, by_evaluate, by_report, by_dehaze, by_basicsr, by_mmengine)
}


def within(pairs: Pairs, root: Path) -> Pairs:
    return {tuple(Path(name).relative_to(root).as_posix() for name in pair) for pair in pairs}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_of_a_folder(layout: str, root: Path) -> None:
    wanted = set(LAYOUTS[layout].items())
    write(root, [*LAYOUTS[layout], *dict.fromkeys(LAYOUTS[layout].values())])
    for name, finder in FINDERS.items():
        assert within(finder(root), root) == wanted, name
    assert by_prepare(root) == wanted
    # The store says so to everyone, too.
    store = root.parent / "store"
    assert by_evaluate(store) == by_basicsr(store, split=None) == wanted
    assert by_mmengine(store, split=None) == wanted
    sources, _ = find_sources([store], root.parent / "out")
    truth = Truth(None, None, sources)
    labels = {str(source.name): truth.clear_of(source).label for source in sources}
    assert set(labels) == {hazy for hazy, _ in wanted}
    for hazy, clear in wanted:
        assert clear in labels[hazy]


def by_bench(hazy: Path, clear: Path) -> Pairs:
    return {(str(one), str(other)) for one, other in find_pairs(hazy, clear, 99) or ()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_of_two_folders(layout: str, root: Path) -> None:
    """Of a flat one, both sides are named by the same folder: its names tell them apart."""
    wanted = set(LAYOUTS[layout].items())
    write(root, [*LAYOUTS[layout], *dict.fromkeys(LAYOUTS[layout].values())])
    depth = 0 if "flat" in layout else 3 if "deeper" in layout else 2 if "spaces" in layout else 1
    hazy, clear = (root.joinpath(*Path(name).parts[:depth]) for name in next(iter(wanted)))
    for one, other in ((hazy, clear), (root, clear), (hazy, root)):
        assert within(pairs_of(open_scenes(other, hazy=one)), root) == wanted
        assert within(shown(photographs_of_flags(one, other), root), root) == wanted
        assert within(by_dehaze(one, other), root) == wanted
        assert within(by_basicsr(other, dataroot_lq=str(one)), root) == wanted
        assert within(by_mmengine(other, dataroot_lq=str(one)), root) == wanted
        assert within(by_bench(one, other), root) == wanted
    assert by_prepare(root, hazy=hazy, clear=clear) == wanted


def test_one_folder_of_clear_images_for_both_sides(root: Path) -> None:
    write(root, ["1.png", "2.png"])
    for finder in (
        lambda: open_scenes(root, hazy=root),
        lambda: photographs_of_flags(root, root),
        lambda: by_basicsr(root, dataroot_lq=str(root)),
        lambda: by_mmengine(root, dataroot_lq=str(root)),
        lambda: by_bench(root, root),
        lambda: by_prepare(root, hazy=root, clear=root),
    ):
        with pytest.raises(KTDNError, match=r"neither folders nor names tell which is which"):
            finder()


@pytest.mark.parametrize("layout", ["flat, both told", "several hazes", "unusual names"])
def test_lmdbs(layout: str, root: Path) -> None:
    write(root, [*LAYOUTS[layout], *dict.fromkeys(LAYOUTS[layout].values())])
    place = root.parent / "lmdbs"
    make_lmdbs(root, place)
    hazy, clear = str(place / "hazy.lmdb"), place / "clear.lmdb"
    wanted = pairs_of(open_scenes(place))
    assert len(wanted) == len(LAYOUTS[layout])
    assert all(one == other for one, other in wanted)
    assert by_check(place) == by_evaluate(place) == wanted
    assert pairs_of(open_scenes(clear, hazy=hazy)) == wanted
    for finder in (by_basicsr, by_mmengine):
        assert finder(place, split=None) == finder(clear, dataroot_lq=hazy) == wanted
    found = photographs_of_flags(None, place).photographs
    assert {(name, name) for name in found} == wanted
    with pytest.raises(
        KTDNError, match=r"hazy images, whose clear ones are beside it; give .*lmdbs"
    ):
        open_scenes(hazy)


def test_a_store_is_ground_truth_of_the_folder_it_was_made_from(root: Path) -> None:
    pairs = LAYOUTS["several hazes"]
    write(root, [*pairs, *dict.fromkeys(pairs.values())])
    store = root.parent / "store"
    prepare(root, store)
    found = pairs_of(open_scenes(store, hazy=root / "hazy"))
    assert {(f"hazy/{Path(one).name}", other) for one, other in found} == set(pairs.items())
    sources, _ = find_sources([root / "hazy"], root.parent / "out")
    truth = Truth(store, None, sources)
    for source in truth.sources:
        clear = truth.clear_of(source)
        assert clear is not None
        assert clear.label.endswith(pairs[f"hazy/{source.name}"])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_wrong_is_reported_alike(problem: str, root: Path) -> None:
    files, words = PROBLEMS[problem]
    write(root, files)
    for finder in (*FINDERS.values(), by_prepare):
        with pytest.raises(KTDNError) as caught:
            finder(root)
        assert words in str(caught.value), finder
        assert "\n" not in str(caught.value)


def test_sets_that_lie_in_several_folders(root: Path) -> None:
    write(root, [f"{part}/{side}/1.png" for part in "ab" for side in ("hazy", "clear")])
    for finder in (*FINDERS.values(), by_prepare):
        if finder is by_check:  # which checks each as a set of its own
            assert [len(found.pairs) for found in open_sets([root], None, ())] == [1, 1]
            continue
        with pytest.raises(
            KTDNError, match=r"hazy images are in subfolders, .*a and .*b; give one of"
        ):
            finder(root)


def test_clear_images_alone_leave_out_hazy_ones_beside_them(root: Path) -> None:
    write(root, ["1_hazy.png", "1_GT.png", "2_hazy.png", "2_GT.png"])
    files = open_scenes(root, clear_only=True).files("clear")
    assert [path.name for path in files] == ["1_GT.png", "2_GT.png"]
    write(root, ["3.png"])
    with pytest.raises(KTDNError, match=r"3\.png has no clear image"):
        open_scenes(root, clear_only=True)


@pytest.mark.parametrize("name", MAKERS)
def test_pairs_of_public_datasets(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_tables(monkeypatch)
    MAKERS[name](root)
    split = "train" if name == "nh-haze2" else "all"
    wanted = pairs_of(open_scenes(root, name, split))
    assert wanted
    assert by_check(root, name, split) == by_evaluate(root, name, split) == wanted
    assert by_basicsr(root, layout=name, split=split) == wanted
    assert by_mmengine(root, layout=name, split=split) == wanted
    assert by_prepare(root, dataset=name, split=split) == within(wanted, root)
    if name != "reside-ots":  # whose folders of hazy images have no such names
        assert by_check(root) == by_evaluate(root) == by_basicsr(root) == wanted
        hazy = find_folders(root).get("hazy", root)
        assert by_dehaze(hazy, root) == wanted


COMMANDS = [
    "prepare set store",
    "check-data set",
    "evaluate --gt set --baseline hazy -o hazy.csv",
    "evaluate --gt set/clear --hazy set/hazy --baseline hazy -o both.csv",
    "dehaze set --gt set --checkpoint net.pth --device cpu -o out",
    "report out --gt set -o report.html",
]


PROGRAM = """
import json, sys
from ktdn_plugin.cli import main

codes = [main(words.split()) for words in json.loads(sys.argv[1])]
print(json.dumps(codes), file=sys.stderr)
"""
"""Runs commands one after the other in one process: torch is loaded once."""


@pytest.mark.slow
def test_command_lines(tmp_path: Path, run: Callable) -> None:
    pairs = LAYOUTS["several hazes"]
    for number, name in enumerate(sorted({*pairs, *pairs.values()})):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(path)
    torch.manual_seed(0)
    torch.save({"params": KTDN(ENCODER).state_dict()}, tmp_path / "net.pth")
    done = run(json.dumps(COMMANDS), program=("-c", PROGRAM))
    codes = json.loads(done.stderr.splitlines()[-1])
    assert dict(zip(COMMANDS, codes, strict=True)) == {
        words: int(words.startswith("check-data"))  # noise is no pair of one scene
        for words in COMMANDS
    }, done.stderr
    assert "4 hazy and 2 clear images, 4 pairs; all read" in done.stdout
    assert "Created store: folders/set, 4 hazy and 2 clear images" in done.stdout
    assert "1 run" not in done.stdout
    assert "4 photographs" in done.stdout
    stems = {Path(name).stem for name in pairs}
    for table in ("hazy.csv", "both.csv", "out/metrics.csv"):
        with (tmp_path / table).open(newline="") as file:
            images = {Path(row["image"]).name for row in csv.DictReader(file)}
        assert images == {*stems, "mean"}, table
