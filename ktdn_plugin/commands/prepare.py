"""``ktdn prepare``: decode a dataset into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ktdn_plugin.commands.flags import GT, AllowIncomplete, Whole, valued


def prepare(
    source: Annotated[Path, Parameter(name="SOURCE")],
    destination: Annotated[Path, Parameter(name="DEST")],
    /,
    *,
    dataset: Annotated[str, valued("NAME")] = "folders",
    split: Annotated[
        str | None, valued("NAME", show_default="for folders, SOURCE's own name")
    ] = None,
    allow_incomplete: AllowIncomplete = False,
    clear_only: bool = False,
    hazy: Path | None = None,
    gt: Annotated[Path | None, GT] = None,
    workers: Annotated[
        Whole | None, Parameter(validator=Number(gte=1), show_default="all processors")
    ] = None,
) -> None:
    """Decode a dataset's images once, into a store that training reads fast.

    The result appears when it is complete. After an interruption, the same
    command resumes where it stopped. Nothing is downloaded.

    Folders hold hazy and clear images in subfolders named so, or whose names
    end accordingly (01_hazy, 01_GT), or clear images alone.

    Args:
        source: The unpacked dataset.
        destination: The folder to make.
        dataset: How the images are laid out: nh-haze, nh-haze2, o-haze, i-haze, dense-haze,
            reside-its, reside-ots, sots-indoor, sots-outdoor or folders.
        split: Part of the dataset. Without it, the choices are listed; for folders, any
            name of your own.
        clear_only: Take only the clear images, as for a teacher.
        hazy: Hazy images. A folder, for --dataset folders.
        gt: Clear images, the ground truth. A folder, for --dataset folders.
        workers: Number of workers. Images to decode at a time.
    """
    from ktdn_plugin.data.prepare import prepare as prepare_dataset

    prepare_dataset(
        source,
        destination,
        dataset,
        split,
        clear_only=clear_only,
        allow_incomplete=allow_incomplete,
        hazy=hazy,
        clear=gt,
        workers=workers,
    )
