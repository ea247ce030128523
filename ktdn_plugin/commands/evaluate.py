"""``ktdn evaluate``: flags and exit code."""

from __future__ import annotations

import argparse
from pathlib import Path

from ktdn_plugin.commands.machine import add_machine, machine_of

TEXT = """\
Compare methods by their images: PSNR and SSIM on RGB at full resolution, and other measures, of
any methods' images against ground truth, in one table, per image and mean.
"""

END = """\
Images pair with ground truth by name. Equal names pair; else the name must begin with the ground
truth's, or with its hazy image's, with or without what tells these apart (_GT, _hazy, ...), and go
on with '_', '-', '.' or a space and what is no digit: 01, 01_hazy, 01_dehazed and
01_hazy_ktdn_test pair with 01_GT.png, 01_2 and 011 do not. No ground truth may be left without an
image, or have two; images of no ground truth are left out, and counted.

Methods that are built in start from the hazy images: those beside the ground truth (in a store, or
a folder with hazy and clear ones in it), or --hazy.

--metrics takes what pyiqa (pip install pyiqa) has: lpips, dists, niqe, musiq, ... Its licence
(PolyForm Noncommercial) allows non-commercial use only, and it downloads its weights.

exit code: 0; 1 if anything could not be measured, which is named after the rest is measured, or if
nothing can be compared; 2 for unusable arguments.

examples:
  ktdn evaluate results/NAME/visualization --gt val/clear
  ktdn evaluate ours=results/a theirs=results/b --gt nh-haze-val --baseline hazy dcp -o table.csv
  ktdn evaluate --gt NH-HAZE --dataset nh-haze --split challenge-val --baseline hazy dcp \\
      --checkpoint ktdn=experiments/NAME/models/net_g_latest.pth --save dehazed
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "evaluate",
        help="compare methods' results with ground truth, in one table",
        description=TEXT,
        epilog=END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results",
        nargs="*",
        metavar="RESULTS",
        help="a method's images, in a folder or store: FOLDER, or NAME=FOLDER to name the method",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        required=True,
        metavar="FOLDER_OR_STORE",
        help="the ground truth: clear images, a store that 'ktdn prepare' has made, or a folder "
        "with hazy and clear images in it",
    )
    parser.add_argument(
        "--hazy", type=Path, metavar="FOLDER_OR_STORE", help="the hazy images, if not beside --gt"
    )
    parser.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        choices=("hazy", "dcp"),
        help="compare with the hazy images as they are, with the dark channel prior",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="run a trained KTDN, and compare it: ktdn_small, ktdn_tiny or a file; may be given "
        "several times",
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="how --gt is laid out: nh-haze, o-haze, sots-indoor, ..."
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which part of the dataset; for folders, what to call the images (stores know)",
    )
    parser.add_argument(
        "--allow-incomplete",
        action="store_true",
        help="take what is there of an incomplete dataset; the split's name says so",
    )
    parser.add_argument(
        "--y", action="store_true", help="PSNR and SSIM on the Y channel too: psnr_y, ssim_y"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="METRIC",
        help="further measures, by pyiqa (licence: non-commercial): lpips, niqe, ...",
    )
    parser.add_argument("--per-image", action="store_true", help="print each image's figures too")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("evaluation.csv"),
        help="table (evaluation.csv), and the same as Markdown (.md) beside it; both replace "
        "existing ones",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="save the images of dcp and of checkpoints: FOLDER/METHOD/IMAGE.png",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace saved images that exist")
    add_machine(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.console import print_lines
    from ktdn_plugin.evaluation import evaluate

    evaluation = evaluate(
        arguments.results,
        arguments.gt,
        arguments.output,
        hazy=arguments.hazy,
        baselines=list(dict.fromkeys(arguments.baseline)),
        checkpoints=arguments.checkpoint,
        dataset=arguments.dataset,
        split=arguments.split,
        allow_incomplete=arguments.allow_incomplete,
        y=arguments.y,
        metrics=arguments.metrics,
        per_image=arguments.per_image,
        save=arguments.save,
        overwrite=arguments.overwrite,
        **machine_of(arguments),
    )
    if evaluation.problems:
        print_lines(*(f"error: {problem}" for problem in evaluation.problems), to_stderr=True)
        count = len(evaluation.problems)
        print_lines(f"{count} problem{'s' * (count > 1)}; the rest is measured", to_stderr=True)
        raise SystemExit(1)
