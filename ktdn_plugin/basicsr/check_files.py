"""Checks the files that options name before anything starts: data and checkpoints.

Every check returns lines for people, so that all problems are shown at once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import torch
from PIL import Image

from ktdn_plugin.basicsr.check_names import build_to_look_at
from ktdn_plugin.basicsr.check_structure import ROOTS
from ktdn_plugin.basicsr.clear_image_dataset import read_meta_info
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.checkpoints import (
    compare_keys,
    from_published,
    is_published,
    read_checkpoint,
    read_state_dict,
)
from ktdn_plugin.data.images import decode_image, list_images, read_image
from ktdn_plugin.errors import KTDNError

NAMED_AT_MOST = 5
LOOKED_AT_MOST = 2000  # images whose sizes are compared before a run; the others in its course


def check_files(opt: Options, is_train: bool) -> list[str]:
    """Checks all data sets and checkpoints of a run."""
    problems = []
    for phase, dataset in opt["datasets"].items():
        if (dataset["phase"] in ("train", "val")) if is_train else (dataset["phase"] != "train"):
            problems += _check_dataset(dataset, f"datasets.{phase}")
    problems += _check_checkpoints(opt, is_train)
    return problems + _check_gpus(opt)


def _check_gpus(opt: Options) -> list[str]:
    there = torch.cuda.device_count()
    problems = []
    if opt["num_gpu"] > there:
        problems.append(
            f"num_gpu: {opt['num_gpu']} asked for, but torch sees {there} here; use num_gpu: auto "
            "(all there are, or the CPU) or 0 (the CPU)"
        )
    train = opt.get("train") or {}
    if opt["num_gpu"] > 1 and not opt["dist"]:
        for key in ("amp", "compile"):
            if train.get(key, "off") not in ("off", False):
                problems.append(
                    f"train.{key}: {opt['num_gpu']} GPUs in one process cannot do it; start one "
                    f"process for each: torchrun --nproc_per_node={opt['num_gpu']} -m ktdn_plugin "
                    "train ... (or set num_gpu: 1)"
                )
    if train.get("compile") and not _has_compiler():
        problems.append(
            "train.compile: torch.compile needs a C++ compiler, and there is none here; install "
            "g++ (or set CXX), or leave it out"
        )
    for phase, dataset in opt["datasets"].items():
        if dataset.get("prefetch_mode") == "cuda" and not opt["num_gpu"]:
            problems.append(f"datasets.{phase}.prefetch_mode: cuda needs a GPU; leave it out")
    return problems


def _has_compiler() -> bool:
    names = (os.environ.get("CXX") or "", "g++", "clang++", "c++", "cl")
    return any(name and shutil.which(name) for name in names)


def _check_dataset(dataset: dict[str, Any], where: str) -> list[str]:
    kind = dataset["type"]
    if kind not in ROOTS:
        return []
    roots = ROOTS[kind]
    try:
        if dataset["io_backend"].get("type") == "lmdb":
            _check_lmdbs(dataset, roots)
            return []
        names = {key: _names(dataset, key) for key in roots}
        if kind == "PairedImageDataset":
            pairs = _pairs(dataset, names["dataroot_lq"], names["dataroot_gt"])
        else:
            pairs = [(path,) for path in names[roots[0]]]
        for path in pairs[0]:
            read_image(path)
        for pair in pairs[:LOOKED_AT_MOST]:
            _check_sizes(dataset, pair)
        if dataset["phase"] != "train":
            _check_stems(pairs)
    except KTDNError as error:
        return [f"{where}: {error}"]
    return []


def _check_sizes(dataset: dict[str, Any], pair: tuple[Path, ...]) -> None:
    """Compares a pair's sizes, and a training image's with the crop's."""
    sizes = [_size(path) for path in pair]
    scale = dataset["scale"]
    if len(pair) == 2 and sizes[1] != tuple(side * scale for side in sizes[0]):
        # Headers do not tell of a rotation that decoding applies; look again before complaining.
        sizes = [read_image(path).shape[1::-1] for path in pair]
        if sizes[1] != tuple(side * scale for side in sizes[0]):
            shown = " and ".join(f"{width} x {height}" for width, height in sizes)
            times = f", scale: {scale}" if scale != 1 else ""
            raise KTDNError(f"{pair[0]} and {pair[1]} differ in size ({shown}{times})")
    if dataset["phase"] == "train" and min(sizes[-1]) < dataset["gt_size"]:
        raise KTDNError(
            f"{pair[-1]}: {sizes[-1][0]} x {sizes[-1][1]} pixels are less than the crop, gt_size: "
            f"{dataset['gt_size']}; lower it or remove the image"
        )


def _size(path: Path) -> tuple[int, int]:
    """Reads an image's width and height from its header."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError):  # let OpenCV, which will read it, decide
        height, width = read_image(path).shape[:2]
        return width, height


def _check_stems(pairs: list[tuple[Path, ...]]) -> None:
    """Results are named after images alone: two of one name would overwrite each other."""
    seen: dict[str, Path] = {}
    for pair in pairs:
        if pair[0].stem in seen:
            raise KTDNError(
                f"{seen[pair[0].stem]} and {pair[0]} would both be saved as {pair[0].stem}.png; "
                "rename one"
            )
        seen[pair[0].stem] = pair[0]


def _names(dataset: dict[str, Any], key: str) -> list[Path]:
    root = Path(dataset[key])
    if not root.is_dir():
        raise KTDNError(f"{key}: no such folder: {root}")
    if not dataset.get("meta_info_file"):
        if dataset["type"] == "ClearImageDataset":
            return list_images(root)
        # BasicSR's datasets read every file of one folder, whatever it is.
        found = sorted(path for path in root.iterdir() if path.is_file() and path.name[0] != ".")
        if not found:
            raise KTDNError(f"{key}: the folder {root} is empty")
        return found
    names = read_meta_info(dataset["meta_info_file"])
    if key == "dataroot_lq" and dataset["type"] == "PairedImageDataset":
        names = [_hazy_name(dataset, Path(name)) for name in names]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise KTDNError(
            f"{dataset['meta_info_file']} names files that are not in {root}: {_some(missing)}"
        )
    return [root / name for name in names]


def _hazy_name(dataset: dict[str, Any], clear: Path) -> str:
    """Gives the name that BasicSR looks for beside a clear image's."""
    template = dataset.get("filename_tmpl", "{}")
    try:
        return template.format(clear.stem) + clear.suffix
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise KTDNError(
            f"filename_tmpl: {template!r} is no template for names, such as '{{}}_hazy'"
        ) from error


def _pairs(dataset: dict[str, Any], hazy: list[Path], clear: list[Path]) -> list[tuple[Path, ...]]:
    """Matches the two folders as BasicSR's ``PairedImageDataset`` will."""
    if dataset.get("meta_info_file"):
        return list(zip(hazy, clear, strict=True))
    partners = {_hazy_name(dataset, path): path for path in clear}
    names = {path.name for path in hazy}
    lonely = [f"{name} (for {path.name})" for name, path in partners.items() if name not in names]
    spare = [path.name for path in hazy if path.name not in partners]
    if lonely or spare:
        parts = []
        if lonely:
            parts.append(f"no hazy {_some(lonely)} in {dataset['dataroot_lq']}")
        if spare:
            parts.append(f"no clear partner of {_some(spare)} in {dataset['dataroot_gt']}")
        raise KTDNError(
            f"hazy and clear images do not pair: {'; '.join(parts)} (names must be equal, or "
            "follow filename_tmpl)"
        )
    return [(Path(dataset["dataroot_lq"]) / name, path) for name, path in partners.items()]


def _check_lmdbs(dataset: dict[str, Any], roots: Sequence[str]) -> None:
    keys = {}
    for key in roots:
        root = Path(dataset[key])
        if root.suffix != ".lmdb" or not (root / "data.mdb").is_file():
            raise KTDNError(f"{key}: {root} is no LMDB (a folder NAME.lmdb with data.mdb in it)")
        lines = read_meta_info(root / "meta_info.txt")
        keys[key] = sorted(line.split(".")[0] for line in lines)
    first, *others = keys.values()
    for other in others:
        differing = sorted(set(first) ^ set(other))
        if differing:
            raise KTDNError(f"the two LMDBs do not pair: {_some(differing)} is in one of them only")
    shapes = [_first_of_lmdb(Path(dataset[key]), first[0]) for key in roots]
    if dataset.get("meta_info_file"):
        wanted = {name.split(".")[0] for name in read_meta_info(dataset["meta_info_file"])}
        missing = sorted(wanted - set(first))
        if missing:
            raise KTDNError(
                f"{dataset['meta_info_file']} names keys that are not in "
                f"{dataset[roots[0]]}: {_some(missing)}"
            )
        first = sorted(wanted)
    height, width = shapes[0][:2]
    if dataset["phase"] == "train" and min(height, width) < dataset["gt_size"]:
        raise KTDNError(
            f"{dataset[roots[0]]}, key '{first[0]}': {width} x {height} pixels are less than the "
            f"crop, gt_size: {dataset['gt_size']}"
        )


def _first_of_lmdb(root: Path, key: str) -> tuple[int, ...]:
    size = (root / "data.mdb").stat().st_size
    try:
        with lmdb.open(str(root), readonly=True, lock=False, readahead=False) as store:
            # Touching a page behind the end of a truncated file kills the process (bus error).
            needed = (store.info()["last_pgno"] + 1) * store.stat()["psize"]
            if size < needed:
                raise KTDNError(
                    f"{root}: truncated, {size} of {needed} bytes; copy or make it again"
                )
            with store.begin() as transaction:
                content = transaction.get(key.encode("ascii"))
    except lmdb.Error as error:
        raise KTDNError(f"{root}: not a readable LMDB ({error})") from error
    return decode_image(content, f"{root}, key '{key}'").shape


def _check_checkpoints(opt: Options, is_train: bool) -> list[str]:
    path = opt["path"]
    problems = []
    for key, value in path.items():
        if key.startswith("pretrain_network_") and value:
            section = opt.get(key.removeprefix("pretrain_"))
            letter = key.removeprefix("pretrain_network_")
            try:
                _check_checkpoint(
                    Path(value),
                    section if path.get(f"strict_load_{letter}", True) else None,
                    path.get(f"param_key_{letter}"),
                )
            except KTDNError as error:
                problems.append(f"path.{key}: {error}")
    if is_train and opt["train"].get("transfer_opt") and not path.get("pretrain_network_t"):
        problems.append(
            "path.pretrain_network_t: missing; it names the trained teacher's checkpoint (train "
            "one with options/train_teacher.yml, or leave out train.transfer_opt)"
        )
    if not is_train and not path.get("pretrain_network_g"):
        problems.append(
            "path.pretrain_network_g: missing; it names the checkpoint to test (a network with "
            "random weights tells nothing)"
        )
    if path.get("resume_state"):
        try:
            read_checkpoint(path["resume_state"])
        except KTDNError as error:
            problems.append(f"path.resume_state: {error}")
    return problems


def _check_checkpoint(path: Path, network: dict[str, Any] | None, param_key: str | None) -> None:
    weights = read_state_dict(path, param_key)
    if network is None:
        return
    from basicsr.utils.registry import ARCH_REGISTRY

    built = build_to_look_at(network, ARCH_REGISTRY)
    if built is None:
        return
    weights = from_published(weights) if is_published(weights) else weights
    problem = compare_keys(built.state_dict(), weights)
    if problem:
        raise KTDNError(
            f"{path}: the checkpoint of another network than {network['type']}"
            + (f" with encoder '{network['encoder']}'" if "encoder" in network else "")
            + f": {problem}"
        )


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
