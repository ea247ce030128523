"""The images that a dataset's options name: a store, folders, BasicSR's LMDBs, a public dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ktdn_plugin.data.basicsr_lmdb import INFO_FILE
from ktdn_plugin.data.layouts import FOLDERS_LAYOUT, list_dataset
from ktdn_plugin.data.listing import Listing
from ktdn_plugin.data.lmdb_files import is_lmdb
from ktdn_plugin.data.meta_info import read_meta_info
from ktdn_plugin.data.sources import BasicSRImages, FileImages, Images, StoreImages
from ktdn_plugin.data.store import Store, StoreInfo, is_store, split_name
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.image_files import list_images

NAMED_AT_MOST = 5
HAZY_LMDB, CLEAR_LMDB = "hazy.lmdb", "clear.lmdb"


class ImageSet(NamedTuple):
    """Images, and what they are called.

    Attributes:
        hazy: The hazy image of each clear one, where there are any.
        clear: The clear images.
        split: The name of the split, empty where nobody has named it.
        fingerprint: Digest of all names and pixels, where it is known.
    """

    hazy: Images | None
    clear: Images
    split: str
    fingerprint: str = ""

    @property
    def sides(self) -> list[Images]:
        """The hazy images where there are any, and the clear ones."""
        return [self.clear] if self.hazy is None else [self.hazy, self.clear]


def open_image_set(opt: dict[str, Any], paired: bool) -> ImageSet:
    """Opens the images of a dataset's options, without decoding any.

    Args:
        opt: ``dataroot_gt`` is

            - a store made by ``ktdn prepare``;
            - with ``layout`` (and ``split``), a public dataset as it is unpacked;
            - an LMDB made by BasicSR's tools (``NAME.lmdb``), with ``dataroot_lq`` another one
              of equal keys where pairs are wanted, or the folder with both that
              ``ktdn prepare --format basicsr`` makes;
            - a folder, all images in it and below it (of its clear ones, where it has hazy and
              clear ones in it), with ``dataroot_lq`` another one; or what
              ``meta_info_file`` names, hazy names by ``filename_tmpl``.

            ``split`` names the split of what has no name of its own.
        paired: Whether hazy images are wanted beside the clear ones.

    Raises:
        KTDNError: If they are not there, are not what the options say, or do not pair.
    """
    images = _open(opt, Path(opt["dataroot_gt"]), paired)
    if paired and images.hazy is None:
        raise KTDNError(
            f"dataroot_gt: {opt['dataroot_gt']} holds clear images alone; name the hazy ones by "
            "dataroot_lq, or take ClearImageDataset"
        )
    return images


def _open(opt: dict[str, Any], root: Path, paired: bool) -> ImageSet:
    wants_lmdb = (opt.get("io_backend") or {}).get("type") == "lmdb"
    if is_store(root):
        return _of_store(opt, Store(root), paired)
    if is_lmdb(root / CLEAR_LMDB) and (root / INFO_FILE).is_file():
        roots = {"dataroot_gt": str(root / CLEAR_LMDB), "dataroot_lq": str(root / HAZY_LMDB)}
        return _of_lmdbs({**opt, **roots}, root / CLEAR_LMDB, paired)
    if wants_lmdb or is_lmdb(root):
        return _of_lmdbs(opt, root, paired)
    if not root.is_dir():
        raise KTDNError(f"dataroot_gt: no such folder: {root}")
    if opt.get("layout"):
        _refuse(opt, ("meta_info_file", "filename_tmpl", "dataroot_lq"), "a layout")
        listing = list_dataset(
            root,
            opt["layout"],
            opt.get("split"),
            clear_only=not paired,
            allow_incomplete=opt.get("allow_incomplete", False),
            check_files=False,  # a hundred thousand of them would take minutes
        )
        return of_listing(listing, split_name(listing.dataset, listing.split, listing.missing))
    split = opt.get("split") or ""
    if opt.get("meta_info_file"):
        return ImageSet(*_of_meta_file(opt, root, paired), split)
    if not paired:
        # Not all that there is: hazy images may lie beside the clear ones.
        return of_listing(list_dataset(root, FOLDERS_LAYOUT, clear_only=True), split)
    if not opt.get("dataroot_lq"):
        raise KTDNError(
            f"dataroot_lq: missing; {root} is no store and no layout is given, so the hazy images' "
            f"folder must be named (layout: {FOLDERS_LAYOUT} finds hazy and clear ones in a folder)"
        )
    hazy = Path(opt["dataroot_lq"])
    if not hazy.is_dir():
        raise KTDNError(f"dataroot_lq: no such folder: {hazy}")
    if opt.get("filename_tmpl"):
        clear = list_images(root)
        return ImageSet(FileImages(_hazy_files(opt, clear, root)), FileImages(clear), split)
    return of_listing(list_dataset(root, FOLDERS_LAYOUT, hazy=hazy, clear=root), split)


def _of_store(opt: dict[str, Any], store: Store, paired: bool) -> ImageSet:
    _refuse(opt, ("meta_info_file", "filename_tmpl", "dataroot_lq"), "a store")
    _compare(opt, store.info, store.path)
    if not paired:
        clear = StoreImages(store, "clear")
        return ImageSet(None, clear, store.info.name, store.info.fingerprint)
    hazy = StoreImages(store, "hazy", None if store.pairs is None else store.pairs[:, 0])
    clear = StoreImages(store, "clear", None if store.pairs is None else store.pairs[:, 1])
    return ImageSet(hazy, clear, store.info.name, store.info.fingerprint)


def _compare(opt: dict[str, Any], info: StoreInfo, path: Path) -> None:
    for key, found in (("layout", info.dataset), ("split", info.split)):
        if opt.get(key) not in (None, found):
            raise KTDNError(f"{key}: {opt[key]} is asked for, and {path} holds {info.name}")


def _read_info(path: Path) -> StoreInfo:
    """Reads what ``ktdn prepare`` says of LMDBs that it made in BasicSR's format."""
    try:
        return StoreInfo(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise KTDNError(f"{path}: damaged ({error}); make it again by 'ktdn prepare'") from error


def _refuse(opt: dict[str, Any], keys: tuple[str, ...], what: str) -> None:
    for key in keys:
        if opt.get(key):
            raise KTDNError(
                f"{key}: {what} says for itself which images belong to it; leave it out"
            )


def of_listing(listing: Listing, split: str) -> ImageSet:
    """Opens what was listed, each pair with its own hazy and clear image."""
    clear = listing.clear
    if not listing.hazy:
        return ImageSet(None, FileImages(clear, listing.center), split)
    hazy = FileImages([listing.hazy[number] for number, _ in listing.pairs])
    partners = [clear[number] for _, number in listing.pairs]
    return ImageSet(hazy, FileImages(partners, listing.center), split)


def _of_lmdbs(opt: dict[str, Any], root: Path, paired: bool) -> ImageSet:
    _refuse(opt, ("filename_tmpl",), "an LMDB")
    split, fingerprint = opt.get("split") or "", ""
    made_by_us = root.parent / INFO_FILE
    if made_by_us.is_file():
        info = _read_info(made_by_us)
        _compare(opt, info, root.parent)
        split, fingerprint = info.name, info.fingerprint
    else:
        _refuse(opt, ("layout",), "an LMDB of BasicSR's")
    roots = {"dataroot_gt": root}
    if paired:
        if not opt.get("dataroot_lq"):
            raise KTDNError("dataroot_lq: missing; it names the LMDB of the hazy images")
        roots = {"dataroot_lq": Path(opt["dataroot_lq"]), **roots}
    images = open_lmdbs(roots)
    if opt.get("meta_info_file"):
        wanted = {name.split(".")[0] for name in read_meta_info(opt["meta_info_file"])}
        missing = sorted(wanted - set(images[0].keys))
        if missing:
            raise KTDNError(
                f"{opt['meta_info_file']} names keys that are not in {root}: {some(missing)}"
            )
        images = [BasicSRImages(one.path, sorted(wanted)) for one in images]
    return ImageSet(images[0] if paired else None, images[-1], split, fingerprint)


def open_lmdbs(roots: dict[str, Path]) -> list[BasicSRImages]:
    """Opens LMDBs made by BasicSR's tools, whose keys must be the same.

    Args:
        roots: The LMDBs, by the options that name them.

    Raises:
        KTDNError: If one is none, cannot be read, or has other keys.
    """
    keys = {}
    for option, root in roots.items():
        if root.suffix != ".lmdb" or not is_lmdb(root):
            raise KTDNError(f"{option}: {root} is no LMDB (a folder NAME.lmdb with data.mdb in it)")
        keys[option] = sorted(line.split(".")[0] for line in read_meta_info(root / "meta_info.txt"))
    first, *others = keys.values()
    for other in others:
        differing = sorted(set(first) ^ set(other))
        if differing:
            raise KTDNError(f"the two LMDBs do not pair: {some(differing)} is in one of them only")
    return [BasicSRImages(root, first) for root in roots.values()]


def _of_meta_file(
    opt: dict[str, Any], root: Path, paired: bool
) -> tuple[FileImages | None, FileImages]:
    names = read_meta_info(opt["meta_info_file"])
    clear = [root / name for name in names]
    _require(opt, root, clear)
    if not paired:
        return None, FileImages(clear)
    hazy = _hazy_files(opt, clear, root)
    return FileImages(hazy), FileImages(clear)


def _hazy_files(opt: dict[str, Any], clear: list[Path], root: Path) -> list[Path]:
    folder = Path(opt.get("dataroot_lq") or root)
    hazy = [folder / path.relative_to(root).with_name(hazy_name(opt, path.name)) for path in clear]
    _require(opt, folder, hazy)
    return hazy


def _require(opt: dict[str, Any], root: Path, files: list[Path]) -> None:
    missing = [str(path.relative_to(root)) for path in files if not path.is_file()]
    if missing:
        source = opt.get("meta_info_file") or f"filename_tmpl {opt.get('filename_tmpl')!r}"
        raise KTDNError(f"{source} names files that are not in {root}: {some(missing)}")


def hazy_name(opt: dict[str, Any], clear: str) -> str:
    """Returns the name that BasicSR looks for beside a clear image's.

    Raises:
        KTDNError: If ``filename_tmpl`` is no template.
    """
    template = opt.get("filename_tmpl", "{}")
    try:
        return str(template.format(Path(clear).stem)) + Path(clear).suffix
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise KTDNError(
            f"filename_tmpl: {template!r} is no template for names, such as '{{}}_hazy'"
        ) from error


def some(names: list[str]) -> str:
    """Lists the first of many names."""
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
