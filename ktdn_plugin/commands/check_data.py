"""``ktdn check-data``: flags and exit code."""

from __future__ import annotations

import argparse
from pathlib import Path

TEXT = """\
Look for what is wrong with a dataset, before a training run is spent on it: unreadable files,
pairs of different size, pairs that are not the same scene (by their edges), shifted or mirrored
ones, pictures that are in two sets or twice in one (by perceptual hashes), and suspicious values.
"""

END = """\
Each problem is one line on stdout, 'error [KIND] ...' or 'warning [KIND] ...', and a summary
follows. What is worth a look is drawn into a picture, which replaces an existing one.

What 'ktdn prepare --format basicsr' has made is not read: check the folder that it was made from.

exit code: 0 if there is no error, 1 if there is one (or a warning, with --strict), or if a PATH
cannot be checked; 2 for unusable arguments.

examples:
  ktdn check-data datasets/mine                      the sets in mine/train and mine/val
  ktdn check-data train.store val.store              two stores, and what they share
  ktdn check-data NH-HAZE --dataset nh-haze --split challenge-train --split challenge-val
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "check-data",
        help="find what is wrong with a dataset: broken files, wrong pairs, duplicates",
        description=TEXT,
        epilog=END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="STORE_OR_FOLDER",
        help="a set each: a store that 'ktdn prepare' has made, or a folder with hazy and clear "
        "ones in it; a folder of such (train, val, test) counts as those",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="how a folder is laid out: nh-haze, o-haze, reside-its, ... as for 'ktdn prepare', or "
        "folders (default), where hazy and clear images pair by name; stores know theirs",
    )
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="which part of the dataset a folder is; may be given several times, each is a set "
        "(not for --dataset folders)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("check.png"),
        help="picture of what is suspicious (check.png), replaces an existing one; not written if "
        "nothing is",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings as well")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from ktdn_plugin.checking import check_data

    findings = check_data(arguments.paths, arguments.dataset, arguments.split, arguments.output)
    if any(finding.severity == "error" or arguments.strict for finding in findings):
        raise SystemExit(1)
