"""``ktdn haze``: lays haze over a user's photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze.clouds import Window
from ktdn_plugin.haze.depth import read_depth
from ktdn_plugin.haze.scattering import make_transmission, synthesize_haze
from ktdn_plugin.photos import read_rgb, read_size, write_rgb
from ktdn_plugin.scenes.image_files import list_images

SEEDS = 2**32
FOLDER, SHEET = Path("hazy"), Path("training_samples.png")
COUNT = 24


def haze_photos_or_samples(
    photos: Sequence[Path],
    options_file: Path | None,
    output: Path | None = None,
    *,
    seed: int | None = None,
    count: int | None = None,
    depth: Path | None = None,
    transmission: bool = False,
    overwrite: bool = False,
    **ranges: Any,
) -> None:
    """Adds haze to photographs, or draws a training's samples, as the flags say.

    Args:
        photos: See :func:`haze_photos`.
        options_file: Instead of photographs, a BasicSR options file or a config of
            mmengine's.
        output: Where to write; by default ``hazy``, or ``training_samples.png``.
        seed: Seed of the haze, or of the samples; by default 0, or the file's own.
        count: How many samples of the options file; by default 24.
        depth: See :func:`haze_photos`.
        transmission: See :func:`haze_photos`.
        overwrite: Whether files that exist may be replaced.
        ranges: See :func:`haze_photos`; what is None has its default.

    Raises:
        KTDNError: Flags contradict each other, or their work fails.
    """
    ranges = {name: value for name, value in ranges.items() if value is not None}
    if options_file is None:
        if count is not None:
            raise KTDNError("--count: only valid with -opt")
        if not photos:
            raise KTDNError("nothing to do; give a photo, or an options file with -opt")
        haze_photos(
            photos,
            output or FOLDER,
            seed=seed or 0,
            depth=depth,
            transmission=transmission,
            overwrite=overwrite,
            **ranges,
        )
        return
    others = {"depth": depth, "transmission": transmission or None, **ranges}
    for flag, value in others.items():
        if value is not None:
            raise KTDNError(f"--{flag}: not allowed with -opt, whose file sets it")
    if photos:
        raise KTDNError(f"{photos[0]}: not allowed with -opt, whose file lists the photos")
    _draw_samples(options_file, output or SHEET, seed, COUNT if count is None else count, overwrite)


def _draw_samples(
    options_file: Path, output: Path, seed: int | None, count: int, overwrite: bool
) -> None:
    from ktdn_plugin.haze.sheet import write_sample_sheet

    if options_file.suffix == ".py":
        from ktdn_plugin.mmengine.samples import read_training_samples
    else:
        from ktdn_plugin.basicsr.samples import read_training_samples

    samples = read_training_samples(options_file, seed)
    write_sample_sheet(samples, output, count, overwrite)
    print_lines(f"Training samples: {output}")


def haze_photos(
    photos: Sequence[Path],
    output: Path,
    *,
    seed: int = 0,
    depth: Path | None = None,
    transmission: bool = False,
    overwrite: bool = False,
    **ranges: Any,
) -> None:
    """Writes ``<name>_hazy.png`` for each photograph; all is checked before anything is written.

    The first photograph gets the haze of ``seed``, the next one that of ``seed + 1``, and so on,
    in the order in which they are given, and sorted by path within a folder.

    Args:
        photos: Files, and folders, whose images are taken from all levels.
        output: Folder to write to; created if missing.
        seed: Which haze the first photograph gets, in [0, 2**32 - 1]; see ``synthesize_haze``.
        depth: An image of the only photograph's size, brighter where the scene is farther, 8 or
            16 bit; its mean becomes depth 1.
        transmission: Whether to write ``<name>_transmission.png`` too, white where there is no
            haze.
        overwrite: Whether files that exist may be replaced.
        ranges: Options of ``synthesize_haze`` other than its defaults.

    Raises:
        KTDNError: A photograph cannot be read, two of them would be written to one file, a file
            exists, an option does not fit, or nothing can be written.
    """
    check_ranges(seed=seed, **ranges)
    files = _listed(photos)
    endings = ("_hazy.png", "_transmission.png") if transmission else ("_hazy.png",)
    _check_names(files, output, endings, overwrite)
    distance = None
    if depth is not None:
        if len(files) > 1:
            raise KTDNError(f"--depth {depth}: takes a single photo, got {len(files)}; give one")
        distance = read_depth(depth, read_size(files[0]))
    hidden = True if len(files) == 1 else None
    # Reading twice costs less than half of the photos hazy and a message about the next one.
    for file in tqdm(files, "Checking", unit="photo", disable=hidden, leave=False):
        read_rgb(file)

    for number, file in enumerate(tqdm(files, "Haze", unit="photo", disable=hidden)):
        haze = synthesize_haze(read_rgb(file), seed_of(seed, number), depth=distance, **ranges)
        write_rgb(output / f"{file.stem}_hazy.png", _as_bytes(haze.hazy))
        if transmission:
            grey = np.repeat(_as_bytes(haze.transmission)[..., None], 3, axis=2)
            write_rgb(output / f"{file.stem}_transmission.png", grey)
    if len(files) == 1:
        print_lines(f"Hazy photo: {output / f'{files[0].stem}_hazy.png'}")
    else:
        print_lines(f"{len(files)} hazy photos: {output}")


def seed_of(seed: int, position: int) -> int:
    """Returns the seed of the image at a position, counted from 0; the last seed precedes 0."""
    return (seed + position) % SEEDS


def check_ranges(seed: int, **ranges: Any) -> None:
    """Refuses options that ``synthesize_haze`` would refuse, by their names on the command line.

    Raises:
        KTDNError: An option does not fit.
    """
    try:
        make_transmission(Window(1, 1, 0, 0, (1, 1)), seed, **ranges)
    except (TypeError, ValueError) as error:
        raise KTDNError(f"--{error}") from None


def _listed(photos: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in photos:
        files += list_images(path) if path.is_dir() else [path]
    return files


def _check_names(
    files: Sequence[Path], output: Path, endings: Sequence[str], overwrite: bool
) -> None:
    if output.exists() and not output.is_dir():
        raise KTDNError(f"-o {output}: is a file; give a folder")
    read = {file.resolve() for file in files}
    taken: dict[str, Path] = {}
    for file in files:
        # Some file systems take names that differ in case only for one.
        twin = taken.setdefault(file.stem.casefold(), file)
        if twin is not file:
            raise KTDNError(
                f"{twin} and {file} would both be written to {output / file.stem}{endings[0]}; "
                f"rename one, or give them to separate runs with separate -o"
            )
        for ending in endings:
            target = output / f"{file.stem}{ending}"
            if target.resolve() in read:
                raise KTDNError(f"{target}: is one of the photos; choose another folder with -o")
            if target.exists() and not overwrite:
                raise KTDNError(f"{target}: exists; --overwrite replaces it")


def _as_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(values * 255).astype(np.uint8)
