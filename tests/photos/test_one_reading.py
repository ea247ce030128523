"""An image file has the same pixels for whoever reads it: to train, measure or dehaze."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_images import odd_images
from PIL import Image

from ktdn_plugin.data.images import decode_image, image_size, read_image
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.photos import decode_photo, read_photo
from ktdn_plugin.photos.photo import to_8_bit
from ktdn_plugin.scenes.images import FileImages
from ktdn_plugin.scenes.options import scenes_of_options
from ktdn_plugin.scenes.store import Store

ODD = odd_images()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for name, (content, _) in ODD.items():
        # As a stem alone, names of two formats would be one image's.
        (folder / name.replace(".", "-")).with_suffix(Path(name).suffix).write_bytes(content)
    return folder


def files(folder: Path) -> dict[str, Path]:
    return {f"{path.stem[: -len(path.suffix)]}{path.suffix}": path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ODD)
def test_every_kind_of_file_holds_what_it_was_made_of(folder: Path, name: str) -> None:
    path, (content, expected) = files(folder)[name], ODD[name]
    photo = read_photo(path)
    assert photo.pixels.dtype == (np.uint16 if name.startswith("16") else np.uint8)
    assert np.array_equal(to_8_bit(photo.pixels), expected)
    for pixels in (
        read_image(path),
        decode_image(content, name),
        decode_image(memoryview(content), name),
        FileImages([path]).read(0),
    ):
        assert pixels.flags.c_contiguous
        assert np.array_equal(pixels, expected)
    assert image_size(path) == expected.shape[:2]


def test_stores_and_lmdbs_hold_the_same(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "store", clear_only=True)
    store = Store(tmp_path / "store")
    prepare(folder, tmp_path / "lmdb", clear_only=True, form="basicsr")
    images = scenes_of_options({"dataroot_gt": str(tmp_path / "lmdb")}, paired=False).clear
    stored = {store.name("clear", number): number for number in range(len(ODD))}
    keys = {images.name(number): number for number in range(len(ODD))}
    for name, path in files(folder).items():
        expected = ODD[name][1]
        assert np.array_equal(store.pixels("clear", stored[path.name]), expected), name
        number = keys[path.stem]
        assert np.array_equal(images.read(number), expected), name


def test_dehazing_measuring_and_ground_truth_see_the_same(folder: Path, tmp_path: Path) -> None:
    seen = []

    def network(pixels: np.ndarray) -> np.ndarray:
        seen.append(to_8_bit(pixels))
        return pixels

    dehaze_all([folder], tmp_path / "out", lambda: network, form="png")
    for path, pixels in zip(sorted(folder.iterdir()), seen, strict=True):
        expected = ODD[f"{path.stem[: -len(path.suffix)]}{path.suffix}"][1]
        assert np.array_equal(pixels, expected), path
        assert np.array_equal(read_image(tmp_path / "out" / f"{path.stem}.png"), expected), path


def test_a_plain_png_is_the_same_by_either_decoder() -> None:
    """OpenCV decodes those for training, since it is quicker."""
    for size in ((1, 1), (3, 2), (150, 201)):
        pixels = np.random.RandomState(size[0]).randint(0, 256, (*size, 3)).astype(np.uint8)
        for options in ({}, {"compress_level": 0}, {"optimize": True}):
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "PNG", **options)
            for one in (content.getvalue(), cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()):
                assert np.array_equal(decode_image(one, "x"), pixels)
                assert np.array_equal(decode_photo(one, "x").pixels, pixels)
