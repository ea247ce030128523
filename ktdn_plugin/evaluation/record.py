"""Records figures as they are measured, so that an evaluation resumes, and shares come together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktdn_plugin import __version__
from ktdn_plugin.evaluation.methods import Method
from ktdn_plugin.metrics import Measure
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.storage.journal import Journal, JournalFile, stamp_of

FOLDER = ".ktdn-evaluate"


@dataclass
class Measured:
    """What came of measuring a method's image of a scene.

    Attributes:
        figures: By metric.
        problems: What could not be measured, and why.
    """

    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class EvaluationRecord:
    """The figures that processes have measured beside a table.

    They hold for the very images, network and version of this package that they were measured of.

    Args:
        folder: The table's folder.
        truth: The ground truth, each pair at its place.
        titles: The scenes' names.
        measures: What is to be measured.

    Raises:
        KTDNError: If the record cannot be read.
    """

    def __init__(
        self, folder: Path, truth: SceneSet, titles: Sequence[str], measures: Sequence[Measure]
    ) -> None:
        self._journal = Journal(folder / FOLDER, "what it records is then measured again")
        self._file = JournalFile(folder / FOLDER)
        self._truth = truth
        self._titles = titles
        self._names = [measure.name for measure in measures]

    def refresh(self) -> None:
        """Reads what processes have measured since.

        Raises:
            KTDNError: If the record cannot be read.
        """
        self._journal.refresh()

    def add(self, scene: int, method: Method, measured: Measured, saved: Path | None) -> None:
        """Records what came of a scene.

        Args:
            scene: The scene's number.
            method: The method.
            measured: The figures, and the problems.
            saved: The file that the image was saved to.

        Raises:
            KTDNError: If it cannot be written.
        """
        row = {
            "name": self._name(scene, method),
            "of": self._identify(scene, method),
            "metrics": self._names,
            "figures": measured.figures,
            "problems": measured.problems,
            "saved": _identify_file(saved),
        }
        self._file.append(row)

    def find(self, scene: int, method: Method, saved: Path | None = None) -> Measured | None:
        """Returns what came of a scene; None if it was not measured, or not all of it.

        Args:
            scene: The scene's number.
            method: The method.
            saved: The file that holds its image, if that is to be saved.
        """
        rows = self._journal.rows(self._name(scene, method))
        if not rows:
            return None
        identity, file = self._identify(scene, method), _identify_file(saved)
        for row in reversed(rows):
            if row.get("of") != identity or not set(self._names) <= set(row["metrics"]):
                continue
            if saved is None or (file is not None and row.get("saved") == file):
                figures = {name: row["figures"].get(name) for name in self._names}
                known = {name: value for name, value in figures.items() if value is not None}
                return Measured(known, list(row["problems"]))
        return None

    def _name(self, scene: int, method: Method) -> str:
        return f"{method.name}/{self._titles[scene]}"

    def _identify(self, scene: int, method: Method) -> list[Any]:
        image = method.images.identify(method.numbers[scene])
        return [__version__, self._truth.clear.identify(scene), image, method.settings]


def _identify_file(path: Path | None) -> list[Any] | None:
    try:
        return None if path is None else [str(path.absolute()), stamp_of(path)]
    except OSError:
        return None
