"""Clear images alone: what the teacher learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from basicsr.data.data_util import paths_from_lmdb
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import FileClient, img2tensor
from torch.utils.data import Dataset

from ktdn_plugin.data.images import decode_image, list_images
from ktdn_plugin.errors import KTDNError


class ClearImageDataset(Dataset):
    """Images that are input and target at once, for the teacher's stage.

    Args:
        opt: The dataset's options:

            - ``dataroot_gt``: a folder (all images in it and below it) or an LMDB made by
              BasicSR's tools (``.lmdb``);
            - ``meta_info_file``: optional, a text file whose lines start with a file's name below
              ``dataroot_gt``: only these are taken;
            - ``io_backend``: ``{type: disk}`` or ``{type: lmdb}``;
            - ``phase``: ``train`` gives random crops, anything else whole images;
            - ``gt_size``, ``use_hflip``, ``use_rot``: crop size in pixels, random flips, random
              flips and quarter turns (training only).

    Raises:
        KTDNError: If there are no images.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.io_backend = dict(opt.get("io_backend") or {"type": "disk"})
        self.file_client: FileClient | None = None
        root = Path(opt["dataroot_gt"])
        self.is_lmdb = self.io_backend["type"] == "lmdb"
        if self.is_lmdb:
            self.io_backend |= {"db_paths": [str(root)], "client_keys": ["gt"]}
            self.paths = paths_from_lmdb(str(root))
            if opt.get("meta_info_file"):
                wanted = {name.split(".")[0] for name in read_meta_info(opt["meta_info_file"])}
                self.paths = [key for key in self.paths if key in wanted]
        elif opt.get("meta_info_file"):
            self.paths = [str(root / name) for name in read_meta_info(opt["meta_info_file"])]
        else:
            self.paths = [str(path) for path in list_images(root)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Gives ``lq`` and ``gt``, the same RGB tensor (3, h, w) in [0, 1], and their path."""
        if self.file_client is None:
            # Opened here, not above: an LMDB must not be opened before workers are forked.
            backend = dict(self.io_backend)
            self.file_client = FileClient(backend.pop("type"), **backend)
        path = self.paths[index]
        name = f"{self.opt['dataroot_gt']}, key '{path}'" if self.is_lmdb else path
        image = decode_image(self.file_client.get(path, "gt"), name).astype(np.float32) / 255
        if self.opt["phase"] == "train":
            size = self.opt["gt_size"]
            if min(image.shape[:2]) < size:
                raise KTDNError(
                    f"{path}: {image.shape[1]} x {image.shape[0]} pixels are smaller than the "
                    f"crop, gt_size: {size}; remove it or lower gt_size"
                )
            image, _ = paired_random_crop(image, image, size, 1, path)
            image = augment(image.copy(), self.opt.get("use_hflip"), self.opt.get("use_rot"))
        tensor = img2tensor(image, bgr2rgb=True, float32=True)
        return {"lq": tensor, "gt": tensor, "lq_path": path, "gt_path": path}

    def __len__(self) -> int:
        return len(self.paths)


def read_meta_info(path: str | Path) -> list[str]:
    """Reads a BasicSR meta file, in which a line is a file's name, a space, and what else is known.

    Returns:
        The name of each line, as BasicSR itself takes it.

    Raises:
        KTDNError: If the file cannot be read, names nothing, or has what BasicSR would take for a
            part of a name: an empty line, a tab, a byte-order mark.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KTDNError(f"{path}: not a readable meta file ({reason})") from error
    if not lines:
        raise KTDNError(f"{path}: names no file")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or "\t" in line or line.startswith("\ufeff"):
            raise KTDNError(
                f"{path}, line {number}: is empty, or has a tab or a byte-order mark; write one "
                "name a line, what follows it behind a space"
            )
    return [line.strip().split(" ")[0] for line in lines]
