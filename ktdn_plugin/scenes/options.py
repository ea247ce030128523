"""The scenes that a dataset's options name, in both toolboxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.images import BasicSRImages, FileImages
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.scenes.meta_info import read_meta_info
from ktdn_plugin.scenes.opening import FOLDERS, holds_lmdbs, open_scenes
from ktdn_plugin.scenes.problems import some
from ktdn_plugin.scenes.scene_set import SceneSet, identity_pairs
from ktdn_plugin.scenes.store import is_store

Options = Mapping[str, Any]


def scenes_of_options(opt: Options, paired: bool) -> SceneSet:
    """Opens the scenes of a dataset's options, without decoding any image.

    Args:
        opt: ``dataroot_gt`` is what :func:`~ktdn_plugin.scenes.opening.open_scenes` takes:

            - a store made by ``ktdn prepare``;
            - with ``layout`` (and ``split``), a public dataset as it is unpacked;
            - an LMDB made by BasicSR's tools (``NAME.lmdb``), with ``dataroot_lq`` another one
              of equal keys where pairs are wanted, or the folder with both, as
              ``hazy.lmdb`` and ``clear.lmdb``;
            - a folder, all images in it and below it (of its clear ones, where it has hazy and
              clear ones in it), with ``dataroot_lq`` another one; or what
              ``meta_info_file`` names, hazy names by ``filename_tmpl``.

            ``split`` names the split of what has no name of its own.
        paired: Whether hazy images are wanted beside the clear ones.

    Returns:
        The pairs, each hazy image with its clear one at the same place, or the clear images.

    Raises:
        KTDNError: If they are not there, are not what the options say, or do not pair.
    """
    root = Path(opt["dataroot_gt"])
    if is_store(root):
        _refuse(opt, ("meta_info_file", "filename_tmpl", "dataroot_lq"), "a store")
        scenes = open_scenes(root, opt.get("layout"), opt.get("split"), clear_only=not paired)
    elif is_lmdb(root) or holds_lmdbs(root) or _wants_lmdb(opt):
        scenes = _of_lmdbs(opt, root, paired)
    else:
        scenes = _of_folders(opt, root, paired)
    if paired and scenes.hazy is None:
        if scenes.kind == "store":
            raise KTDNError(f"{root}: this store has no hazy images, only clear")
        raise KTDNError(
            f"dataroot_gt: {opt['dataroot_gt']} holds only clear images; give the hazy ones in "
            "dataroot_lq, or use ClearImageDataset"
        )
    return scenes.aligned()


def _wants_lmdb(opt: Options) -> bool:
    return (opt.get("io_backend") or {}).get("type") == "lmdb"


def _of_lmdbs(opt: Options, root: Path, paired: bool) -> SceneSet:
    _refuse(opt, ("filename_tmpl",), "an LMDB")
    names = {"dataroot_gt": root}
    if not is_lmdb(root) and holds_lmdbs(root):  # the folder of both
        names = {}
    elif paired:
        if not opt.get("dataroot_lq"):
            raise KTDNError("dataroot_lq: missing; it names the LMDB of the hazy images")
        names["dataroot_lq"] = Path(opt["dataroot_lq"])
    for key, place in names.items():
        if place.suffix != ".lmdb" or not is_lmdb(place):
            raise KTDNError(
                f"{key}: {place} is not an LMDB (a folder NAME.lmdb with data.mdb in it)"
            )
    hazy = names.get("dataroot_lq")
    scenes = open_scenes(
        root, opt.get("layout"), opt.get("split"), hazy=hazy, clear_only=not paired
    )
    return _only_named(opt, scenes) if opt.get("meta_info_file") else scenes


def _only_named(opt: Options, scenes: SceneSet) -> SceneSet:
    """Leaves out what a meta file does not name of LMDBs of equal keys."""
    assert isinstance(scenes.clear, BasicSRImages)
    wanted = {name.split(".")[0] for name in read_meta_info(opt["meta_info_file"])}
    number_of = {key: number for number, key in enumerate(scenes.clear.keys)}
    missing = sorted(wanted - number_of.keys())
    if missing:
        raise KTDNError(
            f"{opt['meta_info_file']} names keys that are not in {scenes.clear.path}: "
            f"{some(missing)}"
        )
    return scenes.only([number_of[key] for key in sorted(wanted)])


def _of_folders(opt: Options, root: Path, paired: bool) -> SceneSet:
    if not root.is_dir():
        raise KTDNError(f"dataroot_gt: no such folder: {root}")
    if opt.get("layout"):
        _refuse(opt, ("meta_info_file", "filename_tmpl", "dataroot_lq"), "a layout")
        return open_scenes(
            root,
            opt["layout"],
            opt.get("split"),
            clear_only=not paired,
            allow_incomplete=opt.get("allow_incomplete", False),
            check_files=False,  # a hundred thousand of them would take minutes
        )
    split = opt.get("split") or ""
    by_names = opt.get("meta_info_file") or (paired and opt.get("filename_tmpl"))
    if paired and not opt.get("meta_info_file"):
        if not opt.get("dataroot_lq"):
            raise KTDNError(
                f"dataroot_lq: missing; {root} is not a store and no layout is given, so the hazy "
                f"images' folder is needed (layout: {FOLDERS} finds hazy and clear ones in a "
                "folder)"
            )
        if not Path(opt["dataroot_lq"]).is_dir():
            raise KTDNError(f"dataroot_lq: no such folder: {opt['dataroot_lq']}")
    if by_names:
        return _of_names(opt, root, paired, split)
    hazy = opt["dataroot_lq"] if paired else None
    # Not all that there is: hazy images may lie beside the clear ones.
    return replace(open_scenes(root, hazy=hazy, clear_only=not paired), split=split)


def _of_names(opt: Options, root: Path, paired: bool, split: str) -> SceneSet:
    """Opens the images that a meta file names, or hazy ones that are named after clear ones."""
    if opt.get("meta_info_file"):
        clear = [root / name for name in read_meta_info(opt["meta_info_file"])]
        _require(opt, root, clear)
    else:
        clear = list_images(root)
    scenes = SceneSet(root, FileImages(clear, root=root), split=split)
    if not paired:
        return scenes
    folder = Path(opt.get("dataroot_lq") or root)
    hazy = [folder / path.relative_to(root).with_name(hazy_name(opt, path.name)) for path in clear]
    _require(opt, folder, hazy)
    return replace(scenes, hazy=FileImages(hazy, root=folder), pairs=identity_pairs(len(hazy)))


def _refuse(opt: Options, keys: tuple[str, ...], what: str) -> None:
    for key in keys:
        if opt.get(key):
            raise KTDNError(f"{key}: {what} lists its own images; remove this key")


def _require(opt: Options, root: Path, files: list[Path]) -> None:
    missing = [str(path.relative_to(root)) for path in files if not path.is_file()]
    if missing:
        source = opt.get("meta_info_file") or f"filename_tmpl {opt.get('filename_tmpl')!r}"
        raise KTDNError(f"{source} names files that are not in {root}: {some(missing)}")


def hazy_name(opt: Options, clear: str) -> str:
    """Returns the name that BasicSR looks for beside a clear image's.

    Raises:
        KTDNError: If ``filename_tmpl`` is not a template.
    """
    template = opt.get("filename_tmpl", "{}")
    try:
        return str(template.format(Path(clear).stem)) + Path(clear).suffix
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise KTDNError(
            f"filename_tmpl: {template!r} is not a name template such as '{{}}_hazy'"
        ) from error
