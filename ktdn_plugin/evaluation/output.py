"""Where a comparison's table and images go, checked before the work begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ktdn_plugin.csv_files import write_csv
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.methods import Method
from ktdn_plugin.evaluation.table import Table
from ktdn_plugin.metrics import RGB8
from ktdn_plugin.photos import write_rgb
from ktdn_plugin.scenes.images import FileImages
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.storage.writable import check_writable


def check_table(path: Path) -> None:
    """Refuses a place where no table can be written; leaves nothing there.

    Raises:
        KTDNError: If it does not end in .csv, or is taken or not writable.
    """
    if path.suffix.lower() != ".csv":
        raise KTDNError(
            f"-o {path}: the table is written as .csv (and .md beside it); use the suffix .csv"
        )
    for place in (path, markdown_of(path)):
        if place.is_dir():
            raise KTDNError(f"-o {place}: a folder; give a file")
    check_writable(path.absolute().parent, f"-o {path}")


def write_table(path: Path, table: Table) -> None:
    """Writes the table as CSV, and as Markdown beside it; both replace what is there.

    Raises:
        KTDNError: If one cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KTDNError(f"-o {path}: cannot be written ({error.strerror or error})") from error
    write_csv(path, table.as_rows())
    write_whole(markdown_of(path), lambda file: file.write(table.as_markdown().encode()))


def markdown_of(path: Path) -> Path:
    """Returns the Markdown file beside a CSV file."""
    return path.with_suffix(".md")


class Saving:
    """Where the images go that methods make here: ``FOLDER/METHOD/SCENE.png``.

    Args:
        folder: The folder; None saves nothing.
        methods: All methods; those whose images lie somewhere already are left out.
        truth: The ground truth.
        titles: What each of its scenes is called.

    Raises:
        KTDNError: If there is nothing to save, an image would replace one that is read or lie
            outside the folder, or the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path | None,
        methods: Sequence[Method],
        truth: SceneSet,
        titles: Sequence[str],
    ) -> None:
        self.folders: dict[str, Path] = {}
        self._titles = titles
        if folder is None:
            return
        made = [method.name for method in methods if method.dehaze is not None]
        if not made:
            raise KTDNError(
                f"--save {folder}: there are no images to save; add --baseline dcp or --checkpoint"
            )
        check_writable(folder, f"--save {folder}")
        self.folders = {name: folder / name for name in made}
        images = [truth.clear, *(method.images for method in methods)]
        read = {p.resolve() for one in images if isinstance(one, FileImages) for p in one.paths}
        for name in made:
            for scene in range(len(self._titles)):
                target = self._target(name, scene)
                if target.resolve() in read:
                    raise KTDNError(f"{target}: is one of the images; choose another --save folder")

    def place(self, method: str, scene: int) -> Path | None:
        """Returns where a method's image of a scene is saved; None if it is not."""
        return self._target(method, scene) if method in self.folders else None

    def check_free(self, method: str, scene: int) -> None:
        """Refuses to replace an image.

        Raises:
            KTDNError: If there is one.
        """
        target = self.place(method, scene)
        if target is not None and target.exists():
            raise KTDNError(f"{target}: exists; --overwrite replaces it")

    def save(self, method: str, scene: int, image: RGB8) -> None:
        """Saves a method's image of a scene, where it is to be saved.

        Raises:
            KTDNError: If it cannot be written.
        """
        if method in self.folders:
            write_rgb(self._target(method, scene), image)

    def _target(self, method: str, scene: int) -> Path:
        title = PurePosixPath(self._titles[scene])
        if title.is_absolute() or ".." in title.parts:  # a store may call its images anything
            raise KTDNError(f"--save: {title} of --gt would be written outside the folder")
        return self.folders[method] / f"{title}.png"
