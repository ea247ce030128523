"""What a report is made of, gathered out of the folders: runs, tables, results and their scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.curves.figure import run_names
from ktdn_plugin.curves.run import Run
from ktdn_plugin.curves.runs import read_run
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.report.folders import PICTURES, RESULTS, TABLE, Part, find_parts
from ktdn_plugin.report.recorded import photographs_of_record
from ktdn_plugin.report.scenes import CLEAR_ONLY, Photographs, kind_of, photographs_of_run
from ktdn_plugin.report.tables import Row, Table, read_table
from ktdn_plugin.scenes.image_files import SUFFIXES, list_images
from ktdn_plugin.scenes.names import key_of, without_comparisons
from ktdn_plugin.training.run_log import RUN, read_sets


class NamedRun(NamedTuple):
    """A training run.

    Attributes:
        name: What to call it.
        run: What it has logged.
        is_teacher: Whether it is validated on clear images, which it reproduces.
    """

    name: str
    run: Run
    is_teacher: bool


@dataclass(frozen=True)
class Results:
    """Images that one method has made of one set.

    Attributes:
        method: What to call it.
        images: The files by their keys.
        scenes: Where the photographs are looked up.
        tables: Tables whose figures are of these images.
        set_name: The set's name; empty where it has none.
        iteration: Of a training's pictures, when they were made.
    """

    method: str
    images: dict[str, Path]
    scenes: list[Photographs]
    tables: list[Table]
    set_name: str = ""
    iteration: int | None = None


@dataclass
class Contents:
    """Everything that was found.

    Attributes:
        runs: Training runs.
        tables: Tables of figures, each once, and what to call a method that they do not name.
        results: Images that methods have made.
        free_tables: Tables that were given by themselves; of whose images they are, they say.
        notes: What is missing, one line each.
    """

    runs: list[NamedRun] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)
    results: list[Results] = field(default_factory=list)
    free_tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class ReportSource(NamedTuple):
    """What the user asks to see: a folder or a table, and optionally a name."""

    name: str
    path: Path


def parse_source(text: str) -> ReportSource:
    """Reads ``FOLDER``, or ``NAME=FOLDER``."""
    name, joint, path = text.partition("=")
    if joint and name and path and not Path(text).exists():
        return ReportSource(name, Path(path))
    return ReportSource("", Path(text))


def gather(given: Sequence[ReportSource], flagged: Photographs | None = None) -> Contents:
    """Gathers what the folders hold.

    Args:
        given: What was given.
        flagged: Photographs that the user has named.

    Raises:
        KTDNError: A folder is nothing that could be shown or is given twice, or a log or a table
            is broken.
    """
    seen: dict[Path, Path] = {}
    for _, path in given:
        twin = seen.setdefault(path.resolve(), path)
        if twin is not path:
            also = "" if twin == path else f", also as {twin}"
            raise KTDNError(f"{path}: given twice{also}; remove one")
    groups = [find_parts(path) for _, path in given]
    # What two of the given ones share, as a demo and its results, is shown once.
    known: set[Path] = set()
    for parts in groups:
        parts[:] = [part for part in parts if part.path.resolve() not in known]
        known |= {part.path.resolve() for part in parts}
    folders = [part.path for parts in groups for part in parts if part.kind != "table"]
    names = dict(zip(folders, run_names(folders), strict=True))
    contents = Contents()
    for (own_name, _), parts in zip(given, groups, strict=True):
        if own_name:
            own = [part.path for part in parts if part.kind != "table"]
            names |= {
                path: own_name if len(own) == 1 else f"{own_name}/{path.name}" for path in own
            }
        tables = [read_table(part.path) for part in parts if part.kind == "table"]
        alone = all(part.kind == "table" for part in parts)
        if alone:
            contents.free_tables += tables
        for part in parts:
            if part.kind != "table":
                _add(contents, part, names[part.path], tables, flagged)
        method = next((names[part.path] for part in parts if part.kind == "test"), own_name)
        contents.tables += [(method, table) for table in tables]
    return contents


def _add(
    contents: Contents, part: Part, name: str, tables: list[Table], flagged: Photographs | None
) -> None:
    scenes = [] if flagged is None else [flagged]
    if part.kind == "run":
        _add_run(contents, part.path, name, scenes, tables)
        return
    if part.kind == "test":
        scenes += _saved_scenes(contents, part.path, name, flagged)
    else:
        scenes += _recorded_scenes(contents, part.path, name)
    own = list(tables)
    if (part.path / TABLE).is_file():
        own.append(read_table(part.path / TABLE))
        contents.tables.append((name, own[-1]))
    results = Results(name, {}, scenes, own)
    if part.kind == "test":
        _add_test(contents, part.path, results, flagged)
    elif images := without_comparisons(_images_of(part.path)):
        contents.results.append(replace(results, images=images))


def _add_run(
    contents: Contents, folder: Path, name: str, flagged: list[Photographs], tables: list[Table]
) -> None:
    """Adds a run's curves, its validation's pictures, and what a test in its folder has left."""
    run = read_run(folder)
    scenes = flagged + _saved_scenes(contents, folder, name, flagged[0] if flagged else None)
    if run.has_curves:
        contents.runs.append(NamedRun(name, run, _is_teacher(folder)))
    if run.test:
        row = Row("", name, "", run.test.split, run.test.images, run.test.figures, {})
        contents.tables.append((name, Table(folder, [row])))
    pictures = _validation_pictures(folder)
    # No table is of them: those that lie near are of a test's results.
    contents.results += [
        Results(name, images, scenes, [], iteration=iteration)
        for iteration, images in pictures.items()
    ]
    tested = _images_of(folder / RESULTS)
    if tested:
        contents.results.append(Results(name, tested, scenes, tables))
    if not (pictures or tested):
        contents.notes.append(
            f"{name}: no images in the run's folder; val.save_img (BasicSR) or 'ktdn "
            "mmengine test' saves them"
        )


def _add_test(
    contents: Contents, folder: Path, results: Results, flagged: Photographs | None
) -> None:
    """Adds each set's pictures, whose photographs are first looked for in that set."""
    before = len(contents.results)
    for pictures in sorted(one for one in (folder / PICTURES).iterdir() if one.is_dir()):
        images = _images_of(pictures)
        if images:
            name = pictures.name
            own = [one for one in results.scenes if one is flagged or one.name == name]
            scenes = [*own, *(one for one in results.scenes if one not in own)]
            found = replace(results, images=images, scenes=scenes, set_name=name)
            contents.results.append(found)
    if len(contents.results) == before:
        contents.notes.append(f"{results.method}: the test saved no images (val.save_img is false)")


def _is_teacher(folder: Path) -> bool:
    kinds = [kind_of(saved) for saved in read_sets(folder) or ()]
    return bool(kinds) and all(kind == CLEAR_ONLY for kind in kinds)


def _saved_scenes(
    contents: Contents, folder: Path, name: str, flagged: Photographs | None
) -> list[Photographs]:
    scenes, faults = [], []
    sets = read_sets(folder)
    if sets is None:
        faults.append(f"{RUN} is missing, which earlier versions did not write")
    for saved in sets or ():
        try:
            scenes.append(photographs_of_run(saved))
        except KTDNError as error:
            faults.append(str(error))
    if flagged is None:
        contents.notes += [
            f"{name}: its hazy and clear images are not shown ({fault}); give them with --hazy and "
            "--gt"
            for fault in faults
        ]
    return scenes


def _recorded_scenes(contents: Contents, folder: Path, name: str) -> list[Photographs]:
    try:
        scenes = photographs_of_record(folder)
    except KTDNError as error:
        contents.notes.append(f"{name}: its source images are not shown ({error})")
        return []
    return [] if scenes is None else [scenes]


def _validation_pictures(folder: Path) -> dict[int, dict[str, Path]]:
    """Finds each image's newest picture, ``visualization/IMAGE/IMAGE_ITERATION.png``."""
    newest: dict[int, dict[str, Path]] = {}
    for image in sorted((folder / PICTURES).glob("*/")):
        found = [
            (int(number), file)
            for file in image.iterdir()
            if file.suffix.lower() in SUFFIXES
            and (number := file.stem.removeprefix(f"{image.name}_")).isdecimal()
        ]
        if found:
            iteration, file = max(found)
            newest.setdefault(iteration, {})[image.name] = file
    return newest


def _images_of(folder: Path) -> dict[str, Path]:
    try:
        return {key_of(path, folder): path for path in list_images(folder)}
    except KTDNError:
        return {}  # none there, which is said where it matters
