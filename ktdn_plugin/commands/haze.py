"""``ktdn haze``: add haze to photographs, or show a training's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ktdn_plugin.commands.flags import OUTPUT, Overwrite, Whole, valued

Range = tuple[float, float]
SAMPLES = valued("FILE", name=("-opt", "--opt", "--options"))


def drawn(low: float, high: float) -> Parameter:
    """Describes a range from which each image draws a value."""
    return valued("LOW HIGH", show_default=f"{low:g} {high:g}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Clouds:
    """What the haze looks like; each image draws its values from these ranges.

    Attributes:
        density: Optical depth of the thickest clouds, 0 to 80.
        airlight: Brightness of the haze, 0 to 1.
        tint: How bluish the haze is, 0 to 1.
        veil: Haze between the clouds as a share of theirs, 0 to 1. 1 1 is flat fog.
        coverage: Share of the image that clouds reach, above 0 and up to 1.
        octaves: Scales of the clouds, 1 to 10.
    """

    # The defaults are only told here: to look them up would load numpy for --help.
    density: Annotated[Range | None, drawn(1.6, 4.5)] = None
    airlight: Annotated[Range | None, drawn(0.65, 1)] = None
    tint: Annotated[Range | None, drawn(0.1, 0.35)] = None
    veil: Annotated[Range | None, drawn(0, 0.25)] = None
    coverage: Annotated[Range | None, drawn(0.6, 1)] = None
    octaves: Annotated[Whole | None, Parameter(show_default="6")] = None


CLOUDS = Clouds()


def haze(
    photos: Annotated[Sequence[Path], Parameter(name="PHOTO")] = (),
    /,
    *,
    opt: Annotated[Path | None, SAMPLES] = None,
    output: Annotated[
        Path | None,
        OUTPUT,
        Parameter(show_default="hazy; training_samples.png with -opt"),
    ] = None,
    seed: Annotated[Whole | None, Parameter(show_default="0; the file's own with -opt")] = None,
    count: Annotated[Whole | None, Parameter(show_default="24")] = None,
    clouds: Clouds = CLOUDS,
    depth: Annotated[Path | None, valued("IMAGE")] = None,
    transmission: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Add non-homogeneous haze to photographs, or show a training's samples.

    Each image draws its haze from the ranges below.

    Args:
        photos: A photo, or a folder of photos.
        opt: Options file. YAML, as BasicSR's, or an mmengine config (.py), instead of photos.
            Its first training samples are shown on one sheet, hazy beside clear.
        output: Where to write. A folder; with -opt the sheet.
        seed: Seed of the random numbers. The first photo's; each next photo uses the next seed.
        count: Number of samples on the sheet of -opt.
        depth: The photo's depth, brighter where it is farther: haze gets thicker there.
        transmission: Write NAME_transmission.png too.
    """
    from ktdn_plugin.haze.run import haze_photos_or_samples

    haze_photos_or_samples(
        photos,
        opt,
        output,
        seed=seed,
        count=count,
        depth=depth,
        transmission=transmission,
        overwrite=overwrite,
        **vars(clouds),
    )
