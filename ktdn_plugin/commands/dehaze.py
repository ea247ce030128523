"""``ktdn dehaze``: flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ktdn_plugin.commands.machine import add_machine, machine_of
from ktdn_plugin.model_zoo.weights import DEFAULT, SHIPPED

MORE = """\
Photographs of any size, of 8 or 16 bit, keep their size, depth, alpha channel, EXIF data, colour
profile and other metadata. Each result is there whole or not at all, and results that are there
are skipped: after an interruption, the same command goes on, and one with another checkpoint,
precision or strength, or another photo of that name, is refused (OUT/.ktdn-dehaze keeps what
results were made with, and from). Files that cannot be dehazed do not stop the others; they are
named at the end, and the exit code is 1.
"""

END = """\
examples:
  ktdn dehaze photo.jpg                                 dehazed/photo.jpg, by ktdn_small
  ktdn dehaze photo.jpg --strength 0.7                  leaves some of the haze
  ktdn dehaze photo.jpg -o clear.png                    another format, by its name
  ktdn dehaze photos -o out --compare                   a folder, with comparisons
  ktdn dehaze hazy --checkpoint net.pth --gt clear      your network; a table of PSNR and SSIM
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    text = "dehaze photographs and videos with a trained network"
    parser = commands.add_parser(
        "dehaze",
        help=text,
        description=f"{text.capitalize()}.\n\n{MORE}",
        epilog=END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a photo, a folder of photos (searched on all levels), a store that 'ktdn prepare' "
        "has made (its hazy images), or a video",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder to write to (dehazed); for a single photo or video, also the file to write",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="NAME_OR_FILE",
        default=Path(DEFAULT),
        help=f"the trained network: {' or '.join(SHIPPED)}, which come with the package, or a file "
        f"of KTDN's of any training program, .pth or .safetensors ({DEFAULT})",
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="X",
        help="how much of the network's change is applied, 0 to 2: 0.7 leaves some of the haze, "
        "more than 1 exaggerates (1)",
    )
    add_machine(parser)
    parser.add_argument(
        "--compare",
        action="store_true",
        help="write NAME_compare.png too: hazy | dehazed (| clear, with --gt) at full size",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        metavar="FOLDER_OR_STORE",
        help="clear images of the hazy ones' names, also in one folder with them (01_hazy.png, "
        "01_GT.png): prints a table of PSNR and SSIM on RGB, and writes it to OUT/metrics.csv; a "
        "store that is INPUT is measured by its own",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="what the table of --gt calls the images; stores know theirs",
    )
    parser.add_argument(
        "--format",
        choices=("png", "jpg", "webp", "tiff"),
        help="format to write (each photo's own; PNG for BMP and for stores)",
    )
    parser.add_argument("--quality", type=int, metavar="Q", help="of JPEG and WebP, 1 to 100 (95)")
    parser.add_argument("--overwrite", action="store_true", help="redo existing results")
    parser.add_argument(
        "--debug", action="store_true", help="stop at the first error and show its traceback"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.dehaze import dehaze_all
    from ktdn_plugin.model_zoo.weights import resolve_checkpoint

    checkpoint = resolve_checkpoint(arguments.checkpoint)

    def load() -> Callable[[Any], Any]:
        from ktdn_plugin.evaluation.stage import warn_if_teacher
        from ktdn_plugin.inference import Dehazer

        warn_if_teacher(checkpoint)
        return Dehazer(checkpoint, strength=arguments.strength, **machine_of(arguments))

    dehaze_all(
        arguments.inputs,
        arguments.output,
        load,
        checkpoint=checkpoint,
        precision=arguments.precision,
        strength=arguments.strength,
        ground_truth=arguments.gt,
        split=arguments.split,
        compare=arguments.compare,
        form=arguments.format,
        quality=arguments.quality,
        overwrite=arguments.overwrite,
        stop_at_errors=arguments.debug,
    )
