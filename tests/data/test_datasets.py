from __future__ import annotations

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import write_png

from ktdn_plugin.data.augmentation import Augmentation
from ktdn_plugin.data.datasets import ClearDataset, PairedDataset, SyntheticHazeDataset
from ktdn_plugin.data.order import SampleDraw, SeededDataset
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.depth import DepthMaps
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.images import FileImages, StoreImages, cut
from ktdn_plugin.scenes.store import Store

CROP = Augmentation(32)


def files(folder: Path) -> FileImages:
    return FileImages(list_images(folder))


def test_whole_pairs(pairs: Path) -> None:
    dataset = PairedDataset(files(pairs / "val/hazy"), files(pairs / "val/clear"))
    assert len(dataset) == 2
    for index in range(2):
        sample = dataset[index]
        for side, name in (("hazy", "name"), ("clear", "clear_name")):
            path = pairs / f"val/{side}/{index:02}.png"
            assert sample[name] == str(path)
            expected = torch.from_numpy(read_rgb(path)).permute(2, 0, 1) / 255
            assert torch.equal(sample[side], expected)


def test_crops_of_a_pair_are_of_one_place_and_the_store_gives_the_same(pairs: Path) -> None:
    # The clear image's negative as the hazy one: what belongs together can be told.
    for path in (pairs / "train/clear").iterdir():
        cv2.imwrite(str(pairs / "train/hazy" / path.name), 255 - cv2.imread(str(path)))
    prepare(pairs / "train", pairs / "store")
    store = Store(pairs / "store")
    assert store.pairs is not None
    sources = (
        (files(pairs / "train/hazy"), files(pairs / "train/clear")),
        tuple(
            StoreImages(store, side, store.pairs[:, column])
            for column, side in enumerate(("hazy", "clear"))
        ),
    )
    datasets = [SeededDataset(PairedDataset(*sides, CROP), 5) for sides in sources]
    seen = set()
    for turn in range(3):
        for index in range(6):
            one, other = (dataset[SampleDraw(turn, index)] for dataset in datasets)
            torch.testing.assert_close(one["hazy"], 1 - one["clear"], atol=1e-6, rtol=0)
            assert torch.equal(one["hazy"], other["hazy"])
            assert torch.equal(one["clear"], other["clear"])
            seen.add(one["clear"].numpy().tobytes())
    assert len(seen) == 18


def test_sizes_that_differ(pairs: Path) -> None:
    write_png(pairs / "val/hazy/01.png", 1, (60, 80))
    sides = files(pairs / "val/hazy"), files(pairs / "val/clear")
    for augmentation in (None, CROP):
        with pytest.raises(KTDNError, match=r"01\.png and .*01\.png differ in size \(80 x 60 and"):
            PairedDataset(*sides, augmentation)[1]
    with pytest.raises(ValueError, match="2 hazy images for 6 clear ones"):
        PairedDataset(sides[0], files(pairs / "train/clear"))


def test_clear_image_smaller_than_the_crop_is_named(pairs: Path) -> None:
    with pytest.raises(KTDNError, match=r"02\.png: 80 x 64 pixels, smaller than the crop"):
        ClearDataset(files(pairs / "train/clear"), Augmentation(65))[2]


def test_a_broken_image_is_named(pairs: Path) -> None:
    (pairs / "val/clear/01.png").write_bytes(b"")
    with pytest.raises(KTDNError, match=r"01\.png: empty file"):
        ClearDataset(files(pairs / "val/clear"))[1]


def test_validation_images_keep_their_haze_and_training_ones_do_not(pairs: Path) -> None:
    clear = files(pairs / "val/clear")
    for _ in range(2):
        random.seed()
        whole = [SyntheticHazeDataset(clear)[1]["hazy"] for _ in range(2)]
        assert torch.equal(*whole)
    assert not torch.equal(whole[0], SyntheticHazeDataset(clear, seed=1)[1]["hazy"])
    dataset = SeededDataset(SyntheticHazeDataset(clear, CROP), 0)
    first, second = (dataset[SampleDraw(turn, 1)] for turn in range(2))
    assert not torch.equal(first["hazy"] - first["clear"], second["hazy"] - second["clear"])
    assert torch.equal(first["hazy"], dataset[SampleDraw(0, 1)]["hazy"])


def test_haze_of_a_crop_is_that_of_the_whole_image(pairs: Path, monkeypatch) -> None:
    clear = files(pairs / "train/clear")
    still = Augmentation(32, hflip=False, rot=False)
    random.seed(3)
    draw = still.draw(64, 80)
    seed = random.getrandbits(32)
    random.seed(3)
    sample = SyntheticHazeDataset(clear, still)[0]
    whole = synthesize_haze(clear.read(0), seed).hazy
    expected = cut(whole, draw.window).transpose(2, 0, 1)
    assert np.array_equal(sample["hazy"].numpy(), expected)


def test_ranges_and_depth_reach_the_haze(pairs: Path) -> None:
    clear = files(pairs / "val/clear")
    none = SyntheticHazeDataset(clear, haze={"density": (0, 0)})[0]
    torch.testing.assert_close(none["hazy"], none["clear"])
    for path in clear.paths:
        ramp = np.zeros(read_rgb(path).shape[:2], np.uint16)
        ramp[:, ramp.shape[1] // 2 :] = 60000
        (pairs / "depth").mkdir(exist_ok=True)
        cv2.imwrite(str(pairs / "depth" / path.name), ramp)
    depth = DepthMaps.of_folder(pairs / "depth", [str(path) for path in clear.paths])
    for augmentation in (None, Augmentation(48, hflip=False, rot=False)):
        sample = SyntheticHazeDataset(clear, augmentation, {"veil": (1, 1)}, depth=depth)[0]
        change = (sample["hazy"] - sample["clear"]).abs().amax(0)
        near = change == 0
        assert near[:, :5].all()
        assert not near[:, -5:].any()


def test_depth_maps_that_are_missing_or_do_not_fit(pairs: Path) -> None:
    write_png(pairs / "depth/00.png", 1, (10, 10))
    with pytest.raises(KTDNError, match=r"no depth map for 1 of 2 images, such as 01\.png"):
        DepthMaps.of_folder(pairs / "depth", ["00.png", "01.png"])
    clear = files(pairs / "val/clear")
    depth = DepthMaps([pairs / "depth/00.png"] * 2)
    with pytest.raises(KTDNError, match=r"00\.png: is 10 x 10 pixels, its photo 75 x 50"):
        SyntheticHazeDataset(clear, depth=depth)[0]
