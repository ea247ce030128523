"""Datasets as they are when they are unpacked: which file is what, and what is missing."""

from __future__ import annotations

from pathlib import Path

from ktdn_plugin.data.folder_listing import list_folders
from ktdn_plugin.data.listing import Listing
from ktdn_plugin.data.public_datasets import DATASETS
from ktdn_plugin.data.public_listing import list_public
from ktdn_plugin.errors import KTDNError, did_you_mean

FOLDERS_LAYOUT = "folders"
LAYOUTS = (*DATASETS, FOLDERS_LAYOUT)


def list_dataset(
    root: str | Path,
    dataset: str = FOLDERS_LAYOUT,
    split: str | None = None,
    *,
    clear_only: bool = False,
    allow_incomplete: bool = False,
    check_files: bool = True,
    hazy: str | Path | None = None,
    clear: str | Path | None = None,
) -> Listing:
    """Finds the images of a dataset; decodes none.

    Args:
        root: The folder that it was unpacked into.
        dataset: One of ``LAYOUTS``. ``folders`` is any folder with hazy and clear images in it, see
            :func:`ktdn_plugin.scenes.folders.find_images`, or with clear images alone.
        split: Which part of a public dataset; needed where there are several. For ``folders``, a
            name that the images shall go by.
        clear_only: Take the clear images alone.
        allow_incomplete: Take what is there instead of refusing an incomplete or altered copy.
        check_files: Look into the files as well (sizes out of their headers, hazy and clear not
            the same file), not only at their names.
        hazy: For ``folders``: the folder of hazy images, in ``root`` or anywhere.
        clear: For ``folders``: that of the clear ones.

    Raises:
        KTDNError: If there is no such dataset, split, or folder, or if images are missing or
            altered and that is not allowed.
    """
    root = Path(root)
    if dataset not in LAYOUTS:
        hint = did_you_mean(dataset, LAYOUTS)
        raise KTDNError(f"'{dataset}' is no known dataset ({', '.join(LAYOUTS)}){hint}")
    if root.is_file():
        raise KTDNError(f"{root}: a file, not a folder; unpack it first, if it is an archive")
    if dataset == FOLDERS_LAYOUT:
        return list_folders(
            root, split, hazy, clear, clear_only=clear_only, allow_incomplete=allow_incomplete
        )
    if hazy is not None or clear is not None:
        raise KTDNError(
            f"--hazy and --gt go with '{FOLDERS_LAYOUT}' only: {dataset}'s folders are known"
        )
    return list_public(
        root,
        dataset,
        split,
        clear_only=clear_only,
        allow_incomplete=allow_incomplete,
        check_files=check_files,
    )
