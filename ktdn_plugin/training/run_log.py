"""What a run leaves in its folder for others to read, the same from either toolbox.

``run.json`` says what the run is: ``name``, ``toolbox``, ``stage``, ``versions``, ``device``,
``processes``, ``seed``, ``started``, ``resumed_from`` (``file`` and ``iteration``, or null),
``earlier`` (the same of each start before), ``folder`` (where it was started, which relative paths
start from), ``data`` and ``options`` (all of the toolbox's options, as they were used). ``data``
has ``train``, ``val`` and ``test``: lists of ``name``, ``split``, ``fingerprint``, ``images``, as
far as they are known, and the data set's ``options``.

``metrics.jsonl`` has a JSON object per line. Each has ``kind`` and ``iter``:

- ``train``: ``epoch`` of BasicSR's runs, ``lr`` (one for each group of parameters), losses as
  ``l_NAME``, ``grad_norm``, ``seconds`` of an iteration, ``images_per_second``, ``data_share``
  (waiting for data, 0 to 1), ``memory_gib`` (the most so far);
- ``val``, ``test`` and ``teacher``: ``set``, ``split``, ``fingerprint``, and the figures by their
  names in lower case.

Null stands for what became NaN or infinite.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ktdn_plugin import __version__
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.system_memory import peak_taken

RUN, METRICS = "run.json", "metrics.jsonl"
OTHERS = {"kind", "iter", "epoch", "set", "split", "fingerprint", "images"}
"""What a line of a validation holds besides figures."""

PATHS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "dataroot_depth")
"""A data set's options that name files and folders."""

LARGEST_ITERATION = 1e15
_OF_A_START = ("started", "resumed_from", "versions", "device", "processes")


class RunLog:
    """Writes a run's ``run.json`` and ``metrics.jsonl``.

    Lines are appended whole, so a process that is killed leaves one cut line at most, the last.

    Args:
        folder: The run's folder.
        writes: Whether this process writes; of several the first one alone does.
    """

    def __init__(self, folder: str | Path, *, writes: bool = True) -> None:
        self.folder = Path(folder)
        self.metrics = self.folder / METRICS
        self.writes = writes

    @property
    def is_started(self) -> bool:
        """Whether the run has been described."""
        return (self.folder / RUN).is_file()

    def start(self, iteration: int, validated: int | None = None) -> str:
        """Drops the lines that a starting or resumed run will write again.

        These are the ones after the iteration it resumes from, in a new run all, and a line that
        was cut off.

        Args:
            iteration: The iteration it resumes from; 0 where it is new.
            validated: The last iteration whose validation is not done again; by default
                ``iteration``.

        Returns:
            What was dropped, for the log; empty where nothing was.
        """
        if not self.writes or not self.metrics.exists():
            return ""
        last = iteration if validated is None else validated
        kept, again, broken = [], 0, 0
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            record = _parse(line)
            if record is None:
                broken += bool(line.strip())
            elif iteration and record["iter"] <= (last if record["kind"] == "val" else iteration):
                kept.append(f"{line}\n")
            else:
                again += 1
        if not (again or broken):
            return ""
        write_whole(self.metrics, lambda file: file.write("".join(kept).encode()))
        said = [f"{again} after iteration {iteration}"] * bool(again)
        said += [f"{broken} cut off or broken"] * bool(broken)
        return f"{self.metrics}: lines dropped: {', '.join(said)}."

    def describe(
        self,
        *,
        name: str,
        toolbox: str,
        stage: str,
        options: Mapping[str, Any],
        data: Mapping[str, Sequence[Mapping[str, Any]]],
        seed: int | None,
        device: str,
        processes: int,
        resumed_from: tuple[str, int] | None = None,
    ) -> None:
        """Writes ``run.json``; what it said of the starts of a resumed run is kept in it.

        Args:
            name: The run's name.
            toolbox: Name and version.
            stage: ``teacher``, ``student``, ``test``, or empty.
            options: The toolbox's options as they are used.
            data: The data sets of ``train``, ``val`` and ``test``.
            seed: The seed.
            device: What it trains on.
            processes: How many do.
            resumed_from: Checkpoint and iteration that a resumed run started from.
        """
        if not self.writes:
            return
        before = read_description(self.folder) if resumed_from else None
        earlier = list((before or {}).get("earlier") or [])
        if before:
            earlier.append({key: before.get(key) for key in _OF_A_START})
        versions = {"ktdn_plugin": __version__, "python": platform.python_version()}
        content = {
            "name": name,
            "toolbox": toolbox,
            "stage": stage,
            "versions": versions | {one: metadata.version(one) for one in ("torch", "timm")},
            "device": device,
            "processes": processes,
            "seed": seed,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "resumed_from": resumed_from
            and {"file": resumed_from[0], "iteration": resumed_from[1]},
            "earlier": earlier,
            "folder": str(Path.cwd()),
            "data": data,
            "options": options,
        }
        self._write_description(content)

    def describe_test(self, sets: Sequence[Mapping[str, Any]]) -> bool:
        """Adds the data sets of a test to the ``run.json`` of the training that it is of.

        Returns:
            Whether there is one; otherwise the test has a ``run.json`` of its own to write.
        """
        if not self.writes:
            return True
        content = read_description(self.folder)
        if content is None or content.get("stage") == "test":
            return False
        content["data"] = {**content.get("data", {}), "test": sets}
        self._write_description(content)
        return True

    def _write_description(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(_plain(content), indent=1, allow_nan=False)
        write_whole(self.folder / RUN, lambda file: file.write(f"{text}\n".encode()))

    def training(
        self,
        iteration: int,
        rates: Sequence[float],
        values: Mapping[str, float],
        seconds: tuple[float, float],
        images: int,
        epoch: int | None = None,
    ) -> dict[str, float | None]:
        """Adds the line of an iteration.

        Args:
            iteration: Its number, from 1.
            rates: Learning rate of each group of parameters.
            values: Losses, as ``l_NAME``, and the gradient's norm.
            seconds: Mean seconds of the iterations since the last line, and waiting for data.
            images: Images of an iteration, of all processes.
            epoch: Its epoch.

        Returns:
            ``seconds``, ``images_per_second``, ``data_share`` and ``memory_gib``.
        """
        taken, whole = peak_taken(), max(seconds[0], 1e-9)
        measured: dict[str, float | None] = {
            "seconds": seconds[0],
            "images_per_second": images / whole,
            "data_share": seconds[1] / whole,
            "memory_gib": None if taken is None else taken / 2**30,
        }
        where = {} if epoch is None else {"epoch": epoch}
        self._add("train", iteration, {**where, "lr": [*rates], **values, **measured})
        return measured

    def figures(
        self,
        kind: str,
        iteration: int,
        name: str,
        identity: Mapping[str, Any],
        figures: Mapping[str, float | None],
    ) -> None:
        """Adds the line of a data set's figures.

        Args:
            kind: ``val``, ``test`` or ``teacher``.
            iteration: Of the network that was measured.
            name: The data set's name.
            identity: Its ``split`` and ``fingerprint``.
            figures: The figures by their names; where there are none, there is no line.
        """
        if figures:
            lower = {metric.lower(): value for metric, value in figures.items()}
            self._add(kind, iteration, {"set": name, **identity, **lower})

    def _add(self, kind: str, iteration: int, row: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        line = json.dumps(_finite({"kind": kind, "iter": iteration, **row}), allow_nan=False)
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise KTDNError(f"{self.metrics}: cannot be written ({error.strerror})") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Returns what JSON can hold of options; a text stands for what it cannot."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Reads the lines of a run's ``metrics.jsonl``.

    Raises:
        KTDNError: If a line is broken. A last one that is cut short, as of a training that was
            killed, is passed over.
    """
    log, broken = folder / METRICS, 0
    with log.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if broken:
                raise KTDNError(
                    f"{log}, line {broken}: broken, though more lines follow; delete this one"
                )
            record = _parse(line)
            if record is not None:
                yield record
            elif _is_json(line):
                raise KTDNError(
                    f'{log}, line {number}: not a line of a training log ("kind" and "iter" are '
                    "missing); delete this line"
                )
            else:
                broken = number  # the last one, perhaps, of a training that was killed


def _parse(line: str | bytes) -> dict[str, Any] | None:
    """Parses a line of ``metrics.jsonl``; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or "kind" not in record:
        return None
    iteration = record.get("iter")
    if isinstance(iteration, bool) or not isinstance(iteration, (int, float)):
        return None
    return record if abs(iteration) < LARGEST_ITERATION else None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def read_description(folder: Path) -> dict[str, Any] | None:
    """Reads a run's ``run.json``.

    Returns:
        None where there is none: earlier versions wrote none.

    Raises:
        KTDNError: If it is broken.
    """
    path = folder / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KTDNError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
        raise KTDNError(f"{path}: not written by a run; remove it")
    return content


class SavedSet(NamedTuple):
    """One of a run's validation or test sets.

    Attributes:
        name: The set's name; empty where it has none.
        options: The data set's options, paths as they are to be found from here.
    """

    name: str
    options: dict[str, Any]


def read_sets(folder: Path) -> list[SavedSet] | None:
    """Reads which sets a run was validated and tested on, each once.

    Returns:
        None where the run's folder does not say.

    Raises:
        KTDNError: If its ``run.json`` is broken.
    """
    content = read_description(folder)
    if content is None:
        return None
    # There, or where the run's folder has been moved to, in the project or alone.
    roots = (str(content.get("folder", "")), folder.resolve().parent.parent)
    sets: list[SavedSet] = []
    for kind in ("val", "test"):
        for one in content["data"].get(kind) or ():
            if isinstance(one, dict) and isinstance(one.get("options"), dict):
                saved = SavedSet(str(one.get("name") or ""), _found(one["options"], *roots))
                if saved.options not in [other.options for other in sets]:
                    sets.append(saved)
    return sets


def _found(options: Mapping[str, Any], *roots: str | Path) -> dict[str, Any]:
    """Names files from where the run was started, or where its folder has been moved to."""
    found = dict(options)
    for key in PATHS:
        value = options.get(key)
        places = [Path(root) / str(value) for root in roots if Path(root).is_absolute()]
        if value:
            found[key] = str(next((place for place in places if place.exists()), value))
    return found
