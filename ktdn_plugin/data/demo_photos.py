"""A small paired dataset from photographs that are already on the machine: scikit-image's.

For trying out a whole training run without downloading anything; it is far too small to train a
network that anyone would use.
"""

from __future__ import annotations

import importlib.util
import json
import operator
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import encode_png, read_rgb
from ktdn_plugin.storage.atomic import temporary_beside

TRAINING_PHOTOS = ("astronaut.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png")
"""Both motorcycles are one scene, a stereo pair, and so stay on one side of the split.

Grey photographs are left out: to bring colours back is half of dehazing.
"""

VALIDATION_PHOTOS = ("chelsea.png", "coffee.png")

COLOURS = ((0, 1.0), (25, 1.0), (0, 0.5), (25, 0.5), (50, 0.8), (0, 0.2))
"""Hue turned by degrees, and the share of saturation kept, in turn over a photograph's hazes.

Three training scenes, mainly red ones, would teach that what haze has hidden is red.
"""

LONGER_SIDE = 512
RECORD = "demo_dataset.json"
VERSION = 2  # to be raised when the same seed gives other files, so that old ones are not reused

Image = NDArray[np.uint8]


def make_demo_dataset(folder: Path, seed: int = 0, haze_per_photo: int = 12) -> None:
    """Writes the demo dataset: hazy and clear PNGs with equal names, for training and validation.

    ``train/hazy`` and ``train/clear`` get ``<photo>_<k>.png``, for k from 0 to
    ``haze_per_photo - 1``; ``val/hazy`` and ``val/clear`` get ``<photo>.png``, the same whatever
    the arguments, so that measurements on them compare. All are 8-bit RGB, 512 pixels or less on
    the longer side. A folder that already holds the whole of this dataset is left as it is.

    Args:
        folder: Where to write. It must not exist yet, or be empty, or hold this dataset. It
            appears at once, at the end: an interrupted run leaves nothing that looks whole.
        seed: Which hazes the training photographs get.
        haze_per_photo: Hazes of each training photograph, 1 or more.

    Raises:
        KTDNError: scikit-image or one of its photographs is missing, ``folder`` holds something
            else or only a part of this dataset, or it cannot be written.
        ValueError: ``haze_per_photo`` is below 1.
    """
    if haze_per_photo < 1:
        raise ValueError(f"haze_per_photo must be 1 or more, got {haze_per_photo}")
    folder = Path(folder).absolute()
    seed = operator.index(seed)
    made_with = {"version": VERSION, "seed": seed, "haze_per_photo": haze_per_photo}
    try:
        if _is_whole(folder, made_with):
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(folder) as draft:
            _write_pairs(draft, seed, haze_per_photo)
            record = json.dumps({"made_with": made_with, "bytes": _sizes(draft)}, indent=1)
            (draft / RECORD).write_text(record + "\n", encoding="utf-8")
            _put(draft, folder, made_with)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise KTDNError(f"{folder}: the demo dataset cannot be written here ({reason})") from error


def _is_whole(folder: Path, made_with: dict[str, int]) -> bool:
    """Whether the dataset is there; False where there is nothing, an error for anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    advice = "delete it or choose another folder"
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        wanted: dict[str, int] = record["bytes"]
        found: dict[str, int] = record["made_with"]
        whole = wanted.items() <= _sizes(folder).items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise KTDNError(f"{folder} exists and is not a demo dataset; {advice}") from None
    if not whole:
        raise KTDNError(f"{folder} contains only part of the demo dataset; {advice}")
    if found != made_with:
        raise KTDNError(
            f"{folder} contains a demo dataset made with {found}, not {made_with}; {advice}"
        )
    return True


def _put(draft: Path, folder: Path, made_with: dict[str, int]) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()  # because Windows renames onto nothing that exists
    try:
        draft.rename(folder)
    except OSError:
        # Another process may have finished the same dataset first.
        if not _is_whole(folder, made_with):
            raise


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each PNG below a folder, by its path relative to the folder."""
    files = (path for path in sorted(folder.rglob("*.png")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _write_pairs(folder: Path, seed: int, haze_per_photo: int) -> None:
    for side in ("train", "val"):
        for kind in ("hazy", "clear"):
            (folder / side / kind).mkdir(parents=True)
    for file in TRAINING_PHOTOS:
        clear, name = _load(file), Path(file).stem
        for k in range(haze_per_photo):
            shown = _recolour(clear, *COLOURS[k % len(COLOURS)])
            _write_pair(folder / "train", f"{name}_{k}.png", shown, f"{seed}/{name}/{k}")
    for file in VALIDATION_PHOTOS:
        name = Path(file).stem
        _write_pair(folder / "val", f"{name}.png", _load(file), f"validation/{name}")


def _write_pair(folder: Path, name: str, clear: Image, haze_of: str) -> None:
    # A checksum of words, so that no photograph's haze depends on which others there are.
    hazy = synthesize_haze(clear, zlib.crc32(haze_of.encode())).hazy
    _write_png(folder / "clear" / name, clear)
    _write_png(folder / "hazy" / name, np.rint(hazy * 255).astype(np.uint8))


def _recolour(rgb: Image, degrees: float, saturation: float) -> Image:
    hsv = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hue, chroma, value = cv2.split(hsv)
    hsv = cv2.merge(((hue + degrees) % 360, chroma * saturation, value))
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).clip(0, 255).astype(np.uint8)


def _write_png(path: Path, rgb: Image) -> None:
    # As it comes: the whole folder takes its place at once.
    path.write_bytes(encode_png(rgb, options=()))


def _load(file: str) -> Image:
    rgb = sample_photo(file)
    height, width = rgb.shape[:2]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def sample_photo(file: str) -> Image:
    """Reads one of scikit-image's photographs.

    Args:
        file: Its name, such as ``coffee.png``.

    Raises:
        KTDNError: scikit-image or its photograph is missing.
    """
    # Found without importing scikit-image, whose loaders may want to download.
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise KTDNError("scikit-image's photographs are needed: pip install scikit-image")
    path = Path(spec.origin).parent / "data" / file
    again = "pip install --force-reinstall scikit-image"
    try:
        return read_rgb(path)
    except KTDNError as error:
        raise KTDNError(f"scikit-image's photograph cannot be read ({error}): {again}") from error
