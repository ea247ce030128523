"""The photographs that results of ``ktdn dehaze`` were made from, as their folder's record says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ktdn_plugin.dehaze.journal import read_record
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.report.scenes import RGB8, Photograph, Photographs, Read
from ktdn_plugin.scenes.names import key_of
from ktdn_plugin.scenes.store import Store, is_store
from ktdn_plugin.storage.atomic import digest_of


def photographs_of_record(folder: Path) -> Photographs | None:
    """Finds what a folder's results were made from, where that is still there.

    Args:
        folder: Results of ``ktdn dehaze``.

    Returns:
        The hazy photographs, of stores with the clear ones; None where none is there.

    Raises:
        KTDNError: The folder's record is broken.
    """
    photographs: dict[str, Photograph] = {}
    stores: dict[Path, Store | None] = {}
    for name, entry in read_record(folder).items():
        source = entry.get("source")
        if not isinstance(source, dict) or not isinstance(source.get("path"), str):
            continue
        if not (folder / name).is_file():
            continue  # another of its name but for the suffix may be there
        path, key = Path(source["path"]), key_of(folder / name, folder)
        if isinstance(number := source.get("number"), int):
            if path not in stores:
                stores[path] = _open(path)
            store = stores[path]
            if store and store.info.fingerprint == source.get("fingerprint"):
                photographs[key] = _of_store(key, store, number)
        elif path.is_file():
            hazy = partial(_read_file, path, source.get("sha256"))
            photographs[key] = Photograph(key, str(path), hazy, None)
    return Photographs("", "", photographs) if photographs else None


def _open(path: Path) -> Store | None:
    try:
        return Store(path) if path.is_dir() and is_store(path) else None
    except KTDNError:
        return None


def _of_store(key: str, store: Store, number: int) -> Photograph:
    pairs: Any = [] if store.pairs is None else store.pairs
    partner = next((int(clear) for hazy, clear in pairs if int(hazy) == number), None)
    hazy = partial(store.pixels, "hazy", number)
    clear: Read | None = None if partner is None else partial(store.pixels, "clear", partner)
    return Photograph(key, store.describe("hazy", number), hazy, clear)


def _read_file(path: Path, sha256: Any) -> RGB8 | None:
    """Reads a photograph, if it still is what the result was made from."""
    try:
        return read_rgb(path) if digest_of(path) == sha256 else None
    except (KTDNError, OSError):
        return None  # which is shown as a result without a hazy image
