"""``ktdn check-data``: find problems in a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ktdn_plugin.commands.flags import OUTPUT, Whole, valued


def check_data(
    paths: Annotated[Sequence[Path], Parameter(name="STORE_OR_FOLDER")],
    /,
    *,
    dataset: Annotated[str | None, valued("NAME", show_default="folders")] = None,
    split: Annotated[Sequence[str], valued("NAME", consume_multiple=False)] = (),
    output: Annotated[Path, OUTPUT] = Path("check.png"),
    workers: Annotated[
        Whole | None,
        Parameter(validator=Number(gte=1), show_default="all processors, up to 8"),
    ] = None,
    strict: bool = False,
) -> int:
    """Find problems in a dataset: broken files, wrong pairs, duplicates.

    Before a training run is spent on it: unreadable files, pairs of different
    size, pairs that are not the same scene (by their edges), shifted or
    mirrored ones, images that are in two sets or twice in one (by perceptual
    hashes), and suspicious values.

    Each problem is one line on stdout, 'error [KIND] ...' or 'warning [KIND]
    ...', and a summary follows.

    exit code: 0 if there is no error, 1 if there is one (or a warning, with
    --strict), or if a path cannot be checked; 2 for unusable arguments.

    examples:
      ktdn check-data datasets/mine            the sets in mine/train and mine/val
      ktdn check-data train.store val.store    two stores, and what they share
      ktdn check-data NH-HAZE --dataset nh-haze --split challenge-train

    Args:
        paths: A store created by 'ktdn prepare', or a folder with hazy and clear
            images in it. A folder of these (train, val, test) counts as several.
        dataset: How the images are laid out: nh-haze, nh-haze2, o-haze, i-haze, dense-haze,
            reside-its, reside-ots, sots-indoor, sots-outdoor or folders. Stores know theirs.
        split: Part of the dataset. May be given several times: each is a set. Not for --dataset
            folders.
        output: Where to write. A picture of what is suspicious, if anything. It replaces an
            existing one.
        workers: Number of workers. Scenes to read and compare at a time.
        strict: Exit with 1 for warnings as well.
    """
    from ktdn_plugin.checking import check_data as check

    findings = check(paths, dataset, split, output, workers)
    return int(any(strict or finding.severity == "error" for finding in findings))
