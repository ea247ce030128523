"""``ktdn haze``: flags."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError

# The defaults are said here once more: to look them up would load numpy for --help.
RANGES = {
    "density": ((1.6, 4.5), "optical depth of the thickest clouds, 0 to 80"),
    "airlight": ((0.65, 1.0), "brightness of the haze, 0 to 1"),
    "tint": ((0.1, 0.35), "how bluish the haze is, 0 to 1"),
    "veil": ((0.0, 0.25), "haze between the clouds as a share of theirs; 1 1 is flat fog"),
    "coverage": ((0.6, 1.0), "share of the image that clouds reach, above 0 and up to 1"),
}
OCTAVES = 6
SHEET = "training_samples.png"
COUNT = 24


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the commands."""
    _add_haze(commands)


def _add_haze(commands: argparse._SubParsersAction) -> None:
    text = "lay non-homogeneous haze over photographs, or show what a training is shown"
    parser = commands.add_parser("haze", help=text, description=text)
    parser.add_argument(
        "photos", nargs="*", type=Path, metavar="PHOTO", help="a photo, or a folder of photos"
    )
    parser.add_argument(
        "--options",
        type=Path,
        metavar="FILE",
        help="instead of photos: an options file of BasicSR's, or a config of mmengine's (.py); "
        "its first training samples are drawn into one sheet, hazy beside clear",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help=f"folder to write to (hazy); with --options the sheet ({SHEET})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="which haze the first photo gets; the next one gets that of the next seed (0); "
        "with --options, of the samples (the file's own)",
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help=f"samples on the sheet of --options ({COUNT})"
    )
    _add_ranges(parser)
    parser.add_argument(
        "--depth",
        type=Path,
        metavar="IMAGE",
        help="the photo's depth, brighter where it is farther: haze gets thicker there",
    )
    parser.add_argument(
        "--transmission", action="store_true", help="write NAME_transmission.png too"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run_haze)


def _add_ranges(parser: argparse.ArgumentParser) -> None:
    for name, ((low, high), text) in RANGES.items():
        parser.add_argument(
            f"--{name}",
            nargs=2,
            type=float,
            metavar=("LO", "HI"),
            help=f"{text}; drawn anew for each image ({low:g} {high:g})",
        )
    parser.add_argument(
        "--octaves", type=int, metavar="N", help=f"scales of the clouds, 1 to 10 ({OCTAVES})"
    )


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    values = {name: getattr(arguments, name) for name in (*RANGES, "octaves")}
    return {name: value for name, value in values.items() if value is not None}


def _run_haze(arguments: argparse.Namespace) -> None:
    if arguments.options is not None:
        _run_sheet(arguments)
        return
    if arguments.count is not None:
        raise KTDNError("--count: goes with --options, whose samples it counts")
    if not arguments.photos:
        raise KTDNError("nothing to do; name a photo, or an options file by --options")
    from ktdn_plugin.haze_photos import haze_photos

    haze_photos(
        arguments.photos,
        arguments.output or Path("hazy"),
        seed=arguments.seed or 0,
        depth=arguments.depth,
        transmission=arguments.transmission,
        overwrite=arguments.overwrite,
        **_given(arguments),
    )


def _run_sheet(arguments: argparse.Namespace) -> None:
    flags = {"depth": arguments.depth, "transmission": arguments.transmission or None}
    for flag, value in {**flags, **_given(arguments)}.items():
        if value is not None:
            raise KTDNError(f"--{flag}: not with --options, whose file says what is done")
    if arguments.photos:
        raise KTDNError(f"{arguments.photos[0]}: not with --options, whose file names the photos")
    from ktdn_plugin.haze.sheet import write_sample_sheet

    if arguments.options.suffix == ".py":
        from ktdn_plugin.mmengine.samples import read_training_samples
    else:
        from ktdn_plugin.basicsr.samples import read_training_samples

    output = arguments.output or Path(SHEET)
    samples = read_training_samples(arguments.options, arguments.seed)
    count = COUNT if arguments.count is None else arguments.count
    write_sample_sheet(samples, output, count, arguments.overwrite)
    print_lines(f"Training samples: {output}")
