"""What the folders are that a report is asked for: runs, results, a demo, images, a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from ktdn_plugin.curves.runs import EARLIER, EARLIER_LOGS
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.scenes.image_files import SUFFIXES
from ktdn_plugin.training.run_log import METRICS

Kind = Literal["run", "test", "images", "table"]

PICTURES = "visualization"  # of a training and of a test, by BasicSR
RESULTS = "results"  # of a test, by mmengine
TABLE = "metrics.csv"
HOMES = ("experiments", "work_dirs", "results")  # where the commands put runs
EXPECTED = (
    "expected a training run (experiments/NAME, work_dirs/NAME), results (results/NAME), the "
    "folder of 'ktdn demo' or 'ktdn dehaze', or a CSV of figures"
)
MOST_LISTED = 8
# How an earlier run's folder is named when its name is taken again.
_KEPT_ASIDE = re.compile(r"_archived_\d{8}_\d{6}")


class Part(NamedTuple):
    """Something that a report shows.

    Attributes:
        kind: What it is.
        path: Its folder, or the table's file.
    """

    kind: Kind
    path: Path


def find_parts(path: Path) -> list[Part]:
    """Returns what a folder is; a demo's is several things.

    Raises:
        KTDNError: It is nothing that could be shown; which ones are near is said.
    """
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise KTDNError(f"{path}: is a file; {EXPECTED}")
        return [Part("table", path)]
    if not path.is_dir():
        raise KTDNError(f"{path}: there is no such folder; {EXPECTED}{_near(path)}")
    if _is_demo(path):
        parts = [part for folder in _inner(path) for part in _own_parts(folder)]
        order: tuple[Kind, ...] = ("test", "run", "images")
        parts.sort(key=lambda part: order.index(part.kind))
        table = path / TABLE
        return [*parts, *([Part("table", table)] if table.is_file() else [])]
    parts = _own_parts(path)
    if parts:
        return parts
    if any(path.glob(EARLIER_LOGS)):
        raise KTDNError(f"{path}: has no {METRICS}: {EARLIER}")
    owner = next((one for one in path.resolve().parents if (one / METRICS).is_file()), None)
    if owner is not None:
        raise KTDNError(f"{path}: lies inside a run; give the run's folder: {owner}")
    inside = _inner(path)
    if inside:
        raise KTDNError(f"{path}: not a run itself; give one or more of: {_listed(inside)}")
    if _holds_images(path) or (path / TABLE).is_file():
        return [Part("images", path)]
    raise KTDNError(f"{path}: contains neither a run nor an image; {EXPECTED}{_near(path)}")


def _own_parts(path: Path) -> list[Part]:
    if (path / METRICS).is_file():
        return [Part("run", path)]
    pictures = path / PICTURES
    if pictures.is_dir() and ((path / TABLE).is_file() or _holds_images(pictures)):
        return [Part("test", path)]
    return []


def _is_demo(path: Path) -> bool:
    """Returns whether a folder is a demo's, finished or not, rather than a project's."""
    return (path / "data" / "demo_dataset.json").is_file() and (path / "options").is_dir()


def _inner(path: Path) -> list[Path]:
    places = (path, *(path / home for home in HOMES))
    folders = [one for place in places if place.is_dir() for one in sorted(place.iterdir())]
    return [
        one
        for one in folders
        if one.is_dir() and not _KEPT_ASIDE.search(one.name) and _own_parts(one)
    ]


def _holds_images(path: Path) -> bool:
    return any(
        file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()
        for file in path.rglob("*")
    )


def _near(path: Path) -> str:
    guesses = [Path(home) / path for home in HOMES]
    for guess in guesses if not path.is_absolute() else ():
        if guess.is_dir() and _own_parts(guess):
            return f"; did you mean '{guess}'?"
    beside = [one for one in _beside(path) if one != path]
    hint = did_you_mean(path.name, [one.name for one in beside])
    if beside and not hint:
        hint = f"; beside it: {_listed(beside)}"
    return hint


def _beside(path: Path) -> list[Path]:
    try:
        return _inner(path.parent) if path.parent.is_dir() else []
    except OSError:
        return []


def _listed(runs: Iterable[Path]) -> str:
    names = [str(run) for run in runs]
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
