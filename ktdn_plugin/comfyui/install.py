"""Copying the node for ComfyUI to where ComfyUI looks for nodes."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import temporary_beside

FOLDER = "comfyui_ktdn"
"""The node's folder inside ``custom_nodes``."""

MARK = 'WRITTEN_BY = "ktdn comfyui"'
"""A line of the node's own; a folder without it is somebody else's."""


def copy_node(destination: Path, overwrite: bool = False) -> Path:
    """Copies the node, all of it or nothing, and makes ``models/ktdn`` if ComfyUI has ``models``.

    Args:
        destination: ComfyUI's folder, or the folder ``custom_nodes`` in it.
        overwrite: Replace an earlier copy of the node; of a link to one, the link.

    Returns:
        The node's folder.

    Raises:
        KTDNError: If it is neither of these folders, if something is there already that may not be
            replaced, or if it cannot be written.
    """
    nodes = _nodes_folder(Path(destination))
    target = nodes / FOLDER
    if target.exists() or target.is_symlink():
        if not _is_ours(target):
            raise KTDNError(f"{target}: exists and was not created by 'ktdn comfyui'; move it away")
        if not overwrite:
            raise KTDNError(f"{target}: the node already exists; --overwrite replaces it")
    source = Path(str(resources.files("ktdn_plugin.comfyui"))) / "node"
    try:
        # What is replaced ends in there as well, whether a folder or a link to one.
        with temporary_beside(target) as aside:
            aside.mkdir()
            new, old = aside / "new", aside / "old"
            shutil.copytree(source, new, ignore=shutil.ignore_patterns("__pycache__"))
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except BaseException:
                if old.exists():
                    old.rename(target)
                raise
    except OSError as error:
        raise KTDNError(f"{target}: cannot be written ({error.strerror or error})") from error
    print_lines(f"Node: {target}")
    print_lines(f"Restart ComfyUI; put trained KTDN files into {_models_folder(nodes)}.")
    return target


def _nodes_folder(destination: Path) -> Path:
    if not destination.is_dir():
        raise KTDNError(
            f"{destination}: no such folder; give ComfyUI's folder, or its custom_nodes"
        )
    if (destination / "custom_nodes").is_dir():
        return destination / "custom_nodes"
    if destination.resolve().name == "custom_nodes":
        return destination
    raise KTDNError(
        f"{destination}: neither ComfyUI's folder (it has no custom_nodes) nor its custom_nodes"
    )


def _models_folder(nodes: Path) -> Path:
    """Makes the folder for checkpoints, where ComfyUI keeps its models beside its nodes."""
    models = nodes.absolute().parent / "models"
    if not models.is_dir():
        return Path("models", "ktdn")
    folder = models / "ktdn"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise KTDNError(
            f"{folder}: cannot be created ({error.strerror or error}); the node itself is installed"
        ) from error
    return folder


def _is_ours(folder: Path) -> bool:
    try:
        return MARK in (folder / "__init__.py").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
