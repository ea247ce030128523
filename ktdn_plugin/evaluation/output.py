"""Where a comparison's table and images go, checked before the work begins."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.checkpoints import write_whole
from ktdn_plugin.data.sources import FileImages
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.methods import Method
from ktdn_plugin.evaluation.table import Table
from ktdn_plugin.evaluation.truth import GroundTruth
from ktdn_plugin.metrics import RGB8
from ktdn_plugin.pictures import write_image


def check_table(path: Path) -> None:
    """Refuses a place where no table can be written; leaves nothing there.

    Raises:
        KTDNError: If it does not end in .csv, or is taken or not writable.
    """
    if path.suffix.lower() != ".csv":
        raise KTDNError(f"-o {path}: the table is written as .csv, with the same as .md beside it")
    for place in (path, markdown_of(path)):
        if place.is_dir():
            raise KTDNError(f"-o {place}: a folder; name a file")
    _check_folder(path.absolute().parent, "-o", path)


def write_table(path: Path, table: Table) -> None:
    """Writes the table as CSV, and as Markdown beside it; both replace what is there.

    Raises:
        KTDNError: If one cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KTDNError(f"-o {path}: cannot be written ({error.strerror or error})") from error
    write_whole(path, lambda file: file.write(table.as_csv().encode()))
    write_whole(markdown_of(path), lambda file: file.write(table.as_markdown().encode()))


def markdown_of(path: Path) -> Path:
    """Gives the Markdown file beside a CSV file."""
    return path.with_suffix(".md")


class Saving:
    """Where the images go that methods make here: ``FOLDER/METHOD/SCENE.png``.

    Args:
        folder: The folder; None saves nothing.
        methods: All methods; those whose images lie somewhere already are left out.
        truth: The ground truth.
        overwrite: Whether images may replace others.

    Raises:
        KTDNError: If there is nothing to save, an image exists, one that is read would be
            replaced, or the folder cannot be written to.
    """

    def __init__(
        self, folder: Path | None, methods: Sequence[Method], truth: GroundTruth, *, overwrite: bool
    ) -> None:
        self.folders: dict[str, Path] = {}
        self._titles = truth.titles
        if folder is None:
            return
        made = [method.name for method in methods if method.dehaze is not None]
        if not made:
            raise KTDNError(
                f"--save {folder}: no image is made here to be saved; add --baseline dcp or "
                "--checkpoint"
            )
        _check_folder(folder.absolute(), "--save", folder)
        self.folders = {name: folder / name for name in made}
        images = [truth.clear, *(method.images for method in methods)]
        read = {p.resolve() for one in images if isinstance(one, FileImages) for p in one.paths}
        for name in made:
            for scene in range(len(self._titles)):
                target = self._target(name, scene)
                if target.resolve() in read:
                    raise KTDNError(f"{target}: is one of the images; name another --save folder")
                if target.exists() and not overwrite:
                    raise KTDNError(f"{target}: exists; --overwrite replaces it")

    def save(self, method: str, scene: int, image: RGB8) -> None:
        """Saves a method's image of a scene, where it is to be saved.

        Raises:
            KTDNError: If it cannot be written.
        """
        if method in self.folders:
            write_image(self._target(method, scene), image)

    def _target(self, method: str, scene: int) -> Path:
        return self.folders[method] / f"{self._titles[scene]}.png"


def _check_folder(folder: Path, flag: str, path: Path) -> None:
    """Refuses a folder in which, once it is made, nothing can be written."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise KTDNError(f"{flag} {path}: {folder} is no folder; name another place")
        # Permissions alone do not tell: a file system may be read-only, or full.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as file:
            file.write(b"\0")
    except OSError as error:
        raise KTDNError(
            f"{flag} {path}: cannot be written ({error.strerror or error}); name another place"
        ) from error
