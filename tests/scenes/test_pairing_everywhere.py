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
from helpers import ENCODER
from PIL import Image

from ktdn_plugin import KTDN
from ktdn_plugin.basicsr.datasets import PairedHazeDataset
from ktdn_plugin.checking.sets import open_sets
from ktdn_plugin.data.image_sets import ImageSet
from ktdn_plugin.data.layouts import list_dataset
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.data.sources import Images
from ktdn_plugin.dehaze.inputs import FileSource, find_sources
from ktdn_plugin.dehaze.truth import Truth
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.truth import open_ground_truth
from ktdn_plugin.mmengine.datasets import PairedHazeDataset as PairedForMMEngine
from ktdn_plugin.report.scenes import SceneSet, scenes_of_flags
from ktdn_plugin.scenes.folders import find_folders

Pairs = set[tuple[str, str]]
Finder = Callable[[Path], Pairs]

E_ACUTE = "\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", E_ACUTE)

LAYOUTS: dict[str, dict[str, str]] = {
    "flat, both told": {"01_hazy.png": "01_GT.png", "02_hazy.png": "02_GT.png"},
    "flat, clear ones told": {"01.png": "01_GT.png", "02.png": "02_clean.png"},
    "flat, hazy ones told": {"01_hazy.png": "01.png", "02-haze.png": "02.png"},
    "flat, several hazes": {"7_1_hazy.png": "7_GT.png", "7_10_hazy.png": "7_GT.png"},
    "flat, in folders": {"a/1_hazy.png": "a/1_GT.png", "b/1_hazy.png": "b/1_GT.png"},
    "hazy and clear": {"hazy/1.png": "clear/1.png", "hazy/2.png": "clear/2.png"},
    "hazy and GT": {"hazy/1_hazy.png": "GT/1_GT.png"},
    "ground_truth": {"hazy/1.png": "ground_truth/1.png"},
    "groundtruth": {"haze/1.png": "groundtruth/1.png"},
    "inputs and targets": {"inputs/1.png": "targets/1.png"},
    "input and target": {"Input/1.png": "Target/1.png"},
    "lq and gt": {"lq/1.png": "gt/1.png"},
    "deeper": {"set/train/hazy/1.png": "set/train/clear/1.png"},
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
        " may both be the clear image of ",
    ),
    "two hazy ones": (
        ["hazy/1.png", "hazy/1_hazy.png", "clear/1_GT.png"],
        " may both be the hazy image of ",
    ),
    "two folders of clear ones": (
        ["hazy/1.png", "gt/1.png", "clear/1.png"],
        "'clear' and 'gt' may both hold clear images; say which: --clear",
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


def aligned(images: ImageSet) -> Pairs:
    assert images.hazy is not None
    pairs = [(n, n) for n in range(len(images.clear))]
    return numbered(images.hazy, images.clear, pairs)


def numbered(hazy: Images, clear: Images, pairs: Iterable[tuple[int, int]]) -> Pairs:
    return {(hazy.name(h), clear.name(c)) for h, c in pairs}


def by_prepare(root: Path, **options: object) -> Pairs:
    place = root.parent / "store"
    prepare(root, place, **options)
    return by_check(place)


def by_check(place: Path, *dataset: str) -> Pairs:
    pairs: Pairs = set()
    for found in open_sets([place], *(dataset[:1] or (None,)), dataset[1:]):
        if found.findings:
            raise KTDNError("; ".join(str(finding) for finding in found.findings))
        if found.hazy is not None:
            pairs |= numbered(found.hazy, found.clear, found.pairs)
    return pairs


def by_evaluate(place: Path, dataset: str | None = None, split: str | None = None) -> Pairs:
    truth = open_ground_truth(place, dataset, split)
    return aligned(ImageSet(truth.hazy, truth.clear, ""))


def by_report(place: Path) -> Pairs:
    return shown(scenes_of_flags(None, place), place)


def shown(scenes: SceneSet, place: Path) -> Pairs:
    """Tells the clear images that a report would show by their greys."""
    greys = {path: np.array(Image.open(path))[0, 0, 0] for path in place.rglob("*.*")}
    pairs = set()
    for scene in scenes.scenes.values():
        clear = scene.read().clear
        assert clear is not None
        others = {path: abs(int(grey) - int(clear[0, 0, 0])) for path, grey in greys.items()}
        pairs.add((scene.identity, str(min(others, key=lambda path: others[path]))))
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
    return aligned(PairedHazeDataset(opt).images)


def by_mmengine(place: Path, **options: str) -> Pairs:
    return aligned(PairedForMMEngine(str(place), **(options or {"layout": "folders"})).images)


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


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "flat" not in name])
def test_pairs_of_two_folders(layout: str, root: Path) -> None:
    wanted = set(LAYOUTS[layout].items())
    write(root, [*LAYOUTS[layout], *dict.fromkeys(LAYOUTS[layout].values())])
    depth = 3 if layout == "deeper" else 1
    hazy, clear = (root.joinpath(*Path(name).parts[:depth]) for name in next(iter(wanted)))
    truth = open_ground_truth(clear, None, None, hazy=hazy)
    assert within(aligned(ImageSet(truth.hazy, truth.clear, "")), root) == wanted
    assert within(shown(scenes_of_flags(hazy, clear), root), root) == wanted
    assert within(by_dehaze(hazy, clear), root) == wanted
    assert within(by_dehaze(hazy, root), root) == wanted
    assert within(by_basicsr(clear, dataroot_lq=str(hazy)), root) == wanted
    assert within(by_mmengine(clear, dataroot_lq=str(hazy)), root) == wanted
    assert by_prepare(root, hazy=hazy, clear=clear) == wanted


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_wrong_is_said_alike(problem: str, root: Path) -> None:
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
        with pytest.raises(KTDNError, match=r"hazy images lie deeper, in .*a and .*b; name one of"):
            finder(root)


def test_clear_images_alone_leave_out_hazy_ones_beside_them(root: Path) -> None:
    write(root, ["1_hazy.png", "1_GT.png", "2_hazy.png", "2_GT.png"])
    listing = list_dataset(root, clear_only=True)
    assert [listing.name_of(path) for path in listing.clear] == ["1_GT.png", "2_GT.png"]
    write(root, ["3.png"])
    with pytest.raises(KTDNError, match=r"3\.png has no clear image"):
        list_dataset(root, clear_only=True)


@pytest.mark.parametrize("name", MAKERS)
def test_pairs_of_public_datasets(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_tables(monkeypatch)
    MAKERS[name](root)
    split = "train" if name == "nh-haze2" else "all"
    listing = list_dataset(root, name, split)
    wanted = numbered_files(listing.hazy, listing.clear, listing.pairs)
    assert wanted
    assert by_check(root, name, split) == by_evaluate(root, name, split) == wanted
    assert by_basicsr(root, layout=name, split=split) == wanted
    assert by_mmengine(root, layout=name, split=split) == wanted
    assert by_prepare(root, dataset=name, split=split) == within(wanted, root)
    if name != "reside-ots":  # whose folders of hazy images have no such names
        assert by_check(root) == by_evaluate(root) == by_basicsr(root) == wanted
        hazy = find_folders(root).get("hazy", root)
        assert by_dehaze(hazy, root) == wanted


def numbered_files(hazy: list[Path], clear: list[Path], pairs: Iterable[tuple[int, int]]) -> Pairs:
    return {(str(hazy[h]), str(clear[c])) for h, c in pairs}


COMMANDS = [
    "prepare set store",
    "prepare set lmdbs --format basicsr",
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
    assert "Made store: folders/set, 4 hazy and 2 clear images" in done.stdout
    assert "1 run" not in done.stdout
    assert "4 photographs" in done.stdout
    stems = {Path(name).stem for name in pairs}
    for table in ("hazy.csv", "both.csv", "out/metrics.csv"):
        with (tmp_path / table).open(newline="") as file:
            images = {Path(row["image"]).name for row in csv.DictReader(file)}
        assert images == {*stems, "mean"}, table
    keys = (tmp_path / "lmdbs/clear.lmdb/meta_info.txt").read_text().splitlines()
    assert len(keys) == 4
