"""The photographs that results of ``ktdn dehaze`` were made from, as their folder's record says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ktdn_plugin.data.store import Store, is_store
from ktdn_plugin.dehaze.journal import read_record
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_rgb
from ktdn_plugin.report.scenes import Pair, Scene, SceneSet
from ktdn_plugin.scenes.names import key_of
from ktdn_plugin.storage.atomic import digest_of


def scenes_of_record(folder: Path) -> SceneSet | None:
    """Finds what a folder's results were made from, where that is still there.

    Args:
        folder: Results of ``ktdn dehaze``.

    Returns:
        The hazy photographs, of stores with the clear ones; None where none is there.

    Raises:
        KTDNError: The folder's record is broken.
    """
    scenes: dict[str, Scene] = {}
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
                where = store.describe("hazy", number)
                scenes[key] = Scene(key, where, partial(_read_stored, store, number))
        elif path.is_file():
            scenes[key] = Scene(key, str(path), partial(_read_file, path, source.get("sha256")))
    return SceneSet("", "", scenes) if scenes else None


def _open(path: Path) -> Store | None:
    try:
        return Store(path) if path.is_dir() and is_store(path) else None
    except KTDNError:
        return None


def _read_stored(store: Store, number: int) -> Pair:
    pairs: Any = [] if store.pairs is None else store.pairs
    clear = next((int(clear) for hazy, clear in pairs if int(hazy) == number), None)
    return Pair(
        store.pixels("hazy", number), None if clear is None else store.pixels("clear", clear)
    )


def _read_file(path: Path, sha256: Any) -> Pair:
    """Reads a photograph, if it still is what the result was made from."""
    try:
        return Pair(read_rgb(path) if digest_of(path) == sha256 else None, None)
    except (KTDNError, OSError):
        return Pair(None, None)  # which is shown as a result without a hazy image
