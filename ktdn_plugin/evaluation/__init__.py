"""``ktdn evaluate``: several methods' results against ground truth, in one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.measures import open_measures
from ktdn_plugin.evaluation.methods import (
    Method,
    check_names,
    open_baselines,
    open_checkpoints,
    open_results,
)
from ktdn_plugin.evaluation.output import Saving, check_table, markdown_of, write_table
from ktdn_plugin.evaluation.pairing import SceneNames
from ktdn_plugin.evaluation.record import EvaluationRecord, Measured
from ktdn_plugin.evaluation.table import Table
from ktdn_plugin.metrics import RGB8
from ktdn_plugin.scenes.image_files import headers_bar
from ktdn_plugin.scenes.opening import FOLDERS, open_scenes
from ktdn_plugin.scenes.problems import first_of
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.shards import Shard, divide_devices, find_shard

EXTRA_NAMED_AT_MOST = 3


@dataclass
class Evaluation:
    """What came of a comparison.

    Attributes:
        table: The figures.
        problems: What could not be measured, one line each.
    """

    table: Table
    problems: list[str] = field(default_factory=list)


def evaluate(
    results: Sequence[str],
    ground_truth: Path,
    output: Path,
    *,
    hazy: Path | None = None,
    baselines: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    dataset: str | None = None,
    split: str | None = None,
    allow_incomplete: bool = False,
    y: bool = False,
    metrics: Sequence[str] = (),
    per_image: bool = False,
    save: Path | None = None,
    overwrite: bool = False,
    shard: str | None = None,
    device: str = "auto",
    **network: Any,
) -> Evaluation:
    """Measures methods' images, prints the means and writes the table.

    One image of one method is held at a time. What cannot be read or measured is told at the end,
    and the rest was measured; means are over the images that every method has. Figures are recorded
    beside the table as they are measured: the same command resumes after an interruption.

    Args:
        results: Folders and stores of images, each ``FOLDER`` or ``NAME=FOLDER``.
        ground_truth: See :func:`~ktdn_plugin.scenes.opening.open_scenes`, as for ``dataset``,
            ``split`` and ``allow_incomplete``.
        output: The ``.csv`` to write; the same as Markdown goes beside it. Both are replaced.
        hazy: Folder or store of the hazy images; those beside the ground truth by default.
        baselines: Some of :data:`~ktdn_plugin.evaluation.methods.BASELINES`.
        checkpoints: Trained networks to run, each ``FILE`` or ``NAME=FILE``.
        y: Whether to measure PSNR and SSIM on the Y channel, too.
        metrics: Names of other metrics, see :mod:`ktdn_plugin.evaluation.measures`.
        per_image: Whether to print each image's figures, too.
        save: Folder that gets the images of baselines and checkpoints, a folder each.
        overwrite: Whether saved images may replace others.
        shard: This process's share of the scenes, see :func:`~ktdn_plugin.shards.find_shard`. The
            process that finds all shares measured writes the table.
        device: Where networks run, those of metrics too.
        network: Other arguments of :class:`~ktdn_plugin.Dehazer`.

    Raises:
        KTDNError: If ground truth or results are not there, do not pair or differ in size, a
            measure or checkpoint cannot be used, or nothing can be written.
    """
    check_table(output)
    share = find_shard(shard)
    if device != "auto":  # whether or not anything will run there
        from ktdn_plugin.inference.devices import find_device

        find_device(device)
    if share is not None and (checkpoints or metrics):
        (device,), memory = divide_devices([device], network.get("max_memory"), share)
        network = {**network, "max_memory": memory}
    truth = open_scenes(
        ground_truth,
        None if dataset == FOLDERS else dataset,  # else an unnamed split would get a name
        split,
        hazy=hazy,
        allow_incomplete=allow_incomplete,
        may_be_alone=("hazy",),
    )
    spare = [truth.side("hazy").describe(number) for number in truth.alone]
    truth = truth.aligned()
    scenes = SceneNames.of(truth)
    baselines = list(dict.fromkeys(baselines))
    methods = [*open_baselines(truth.hazy, baselines), *open_results(truth, scenes, results)]
    methods += open_checkpoints(truth.hazy, checkpoints, device=device, **network)
    check_names(methods)
    saving = Saving(save, methods, truth, scenes.titles)
    measures = open_measures(y, metrics, device)
    _tell_extra("--hazy", spare)
    for method in methods:
        _tell_extra(method.name, method.extra)
    table = Table(truth.title, measures, {one.name: one.about for one in methods}, scenes.titles)
    run = _Run(truth, methods, saving, table, output.parent, overwrite=overwrite, share=share)
    try:
        run.measure()
    except KeyboardInterrupt:
        print_lines(
            f"{len(run.measured)} figures are recorded; the same command goes on with the others.",
            to_stderr=True,
        )
        raise
    evaluation = Evaluation(table, run.gather())
    if run.is_complete:
        _finish(evaluation, output, saving, per_image)
    if evaluation.problems:
        print_lines(*(f"error: {problem}" for problem in evaluation.problems), to_stderr=True)
        count = len(evaluation.problems)
        print_lines(f"{count} problem{'s' * (count > 1)}; the rest was measured", to_stderr=True)
    return evaluation


def _finish(evaluation: Evaluation, output: Path, saving: Saving, per_image: bool) -> None:
    table = evaluation.table
    if table.is_empty:
        raise KTDNError(f"no image could be measured: {first_of(evaluation.problems)}")
    write_table(output, table)
    print_lines(*table.screen(per_image))
    print_lines(f"Table: {output}, {markdown_of(output)}")
    if saving.folders:
        print_lines(f"Images: {', '.join(map(str, saving.folders.values()))}")


def _check_sizes(truth: SceneSet, todo: Sequence[tuple[int, Method]]) -> None:
    """Refuses images whose size differs from the ground truth's; broken ones are reported later."""
    wrong = []
    sources = {(scene, id(one.images), one.numbers[scene]): (scene, one) for scene, one in todo}
    for scene, method in headers_bar(sources.values()):
        try:
            found, wanted = method.size(scene), truth.clear.size(scene)
        except KTDNError:
            continue
        if found != wanted:
            here, there = (f"{width} x {height}" for height, width in (found, wanted))
            wrong.append(
                f"{method.describe(scene)} is {here}, its ground truth "
                f"{truth.clear.describe(scene)} {there}"
            )
    if wrong:
        raise KTDNError(f"{first_of(wrong)}; sizes must match, nothing is resized here")


def _tell_extra(name: str, extra: Sequence[str]) -> None:
    if extra:
        several = "s are" if len(extra) > 1 else " is"
        print_lines(
            f"{name}: {len(extra)} further image{several} without ground truth, ignored: "
            f"{first_of(extra, at_most=EXTRA_NAMED_AT_MOST)}"
        )


class _Run:
    """The measuring of this process's share, and what the others have measured."""

    def __init__(
        self,
        truth: SceneSet,
        methods: Sequence[Method],
        saving: Saving,
        table: Table,
        folder: Path,
        *,
        overwrite: bool,
        share: Shard | None,
    ) -> None:
        self.truth = truth
        self.methods = methods
        self.saving = saving
        self.table = table
        self.share = share
        self.is_complete = False
        self.record = EvaluationRecord(folder, truth, table.images, table.measures)
        self.measured: dict[tuple[int, str], Measured] = {}
        titles = enumerate(table.images)
        self.own = {n for n, title in titles if share is None or share.holds(Path(title))}
        self.todo: list[tuple[int, Method]] = []
        for scene, method in ((scene, method) for scene in sorted(self.own) for method in methods):
            place = saving.place(method.name, scene)
            found = self.record.find(scene, method, place)
            # What has failed may do better now.
            if found is None or found.problems or (overwrite and place is not None):
                self.todo.append((scene, method))
                if found is None and not overwrite:
                    saving.check_free(method.name, scene)
            else:
                self.measured[scene, method.name] = found
        if share is not None:
            print_lines(f"Share {share}: {len(self.own)} of {len(table.images)} images")
        _check_sizes(truth, self.todo)

    def measure(self) -> None:
        """Measures what is to be measured, recording all as it comes."""
        hides = True if self.share is not None and self.share.local else None
        total = len(self.todo)
        with tqdm(total=total, desc="Measuring", unit="image", leave=False, disable=hides) as bar:
            held: int | None = None
            clear: RGB8 | None = None
            reason = ""
            for scene, method in self.todo:
                if scene != held:
                    held, clear = scene, None
                    try:
                        clear = self.truth.clear.read(scene)
                    except KTDNError as error:
                        reason = f"ground truth: {error}"
                measured = Measured(problems=[reason])
                if clear is not None:
                    measured = self._measure(scene, method, clear)
                self.measured[scene, method.name] = measured
                if self.share is not None or measured.figures:  # the others wait for it
                    self.record.add(scene, method, measured, self.saving.place(method.name, scene))
                bar.update()

    def _measure(self, scene: int, method: Method, clear: RGB8) -> Measured:
        measured = Measured()
        try:
            image = method.read(scene)
        except KTDNError as error:
            measured.problems.append(f"{method.name}: {error}")
            return measured
        self.saving.save(method.name, scene, image)
        for measure in self.table.measures:
            try:
                value = measure.compute(image, clear)
                if math.isnan(value):
                    raise ValueError("returned nan")
                measured.figures[measure.name] = value
            except ValueError as error:
                what = f"{method.name}: {method.describe(scene)}"
                measured.problems.append(f"{what} has no {measure.name}: {error}")
        return measured

    def gather(self) -> list[str]:
        """Fills the table with the figures of all shares, if all are there.

        Returns:
            What could not be measured, one line each.
        """
        scenes = range(len(self.table.images))
        everything = [(scene, method) for scene in scenes for method in self.methods]
        self.record.refresh()
        for scene, method in everything:
            if (scene, method.name) not in self.measured:
                found = self.record.find(scene, method)
                if found is not None:
                    self.measured[scene, method.name] = found
        self.is_complete = len(self.measured) == len(everything)
        problems = []
        for scene, method in everything:
            measured = self.measured.get((scene, method.name), Measured())
            if self.is_complete or scene in self.own:  # others' are told with the table
                problems += measured.problems
            for name, value in measured.figures.items():
                self.table.add(self.table.images[scene], method.name, name, value)
        if not self.is_complete:
            done = sum(all((n, one.name) in self.measured for one in self.methods) for n in scenes)
            print_lines(
                f"{done} of {len(scenes)} images are measured so far; the table is written when "
                "all are, or by the same command without --shard"
            )
        return list(dict.fromkeys(problems))
