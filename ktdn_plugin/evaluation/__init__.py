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
from ktdn_plugin.evaluation.table import Table
from ktdn_plugin.scenes.image_files import headers_bar
from ktdn_plugin.scenes.opening import FOLDERS, open_scenes
from ktdn_plugin.scenes.problems import first_of
from ktdn_plugin.scenes.scene_set import SceneSet

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
    device: str = "auto",
    **network: Any,
) -> Evaluation:
    """Measures methods' images, prints the means and writes the table.

    One image of one method is held at a time. What cannot be read or measured is told at the end,
    and the rest was measured; means are over the images that every method has.

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
        device: Where networks run, those of metrics too.
        network: Other arguments of :class:`~ktdn_plugin.Dehazer`.

    Raises:
        KTDNError: If ground truth or results are not there, do not pair or differ in size, a
            measure or checkpoint cannot be used, or nothing can be written.
    """
    check_table(output)
    if device != "auto":  # whether or not anything will run there
        from ktdn_plugin.inference.devices import find_device

        find_device(device)
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
    _check_sizes(truth, methods)
    methods += open_checkpoints(truth.hazy, checkpoints, device=device, **network)
    check_names(methods)
    saving = Saving(save, methods, truth, scenes.titles, overwrite=overwrite)
    measures = open_measures(y, metrics, device)
    _tell_extra("--hazy", spare)
    for method in methods:
        _tell_extra(method.name, method.extra)
    table = Table(truth.title, measures, {one.name: one.about for one in methods}, scenes.titles)
    evaluation = Evaluation(table, [])
    _measure(truth, methods, saving, evaluation)
    if table.is_empty:
        raise KTDNError(f"no image could be measured: {first_of(evaluation.problems)}")
    write_table(output, table)
    print_lines(*table.screen(per_image))
    print_lines(f"Table: {output}, {markdown_of(output)}")
    if saving.folders:
        print_lines(f"Images: {', '.join(map(str, saving.folders.values()))}")
    if evaluation.problems:
        print_lines(*(f"error: {problem}" for problem in evaluation.problems), to_stderr=True)
        count = len(evaluation.problems)
        print_lines(f"{count} problem{'s' * (count > 1)}; the rest was measured", to_stderr=True)
    return evaluation


def _check_sizes(truth: SceneSet, methods: Sequence[Method]) -> None:
    """Refuses images whose size differs from the ground truth's; broken ones are reported later."""
    sources = {(id(method.images), *method.numbers): method for method in methods}
    wrong = []
    pairs = [(scene, one) for scene in range(len(truth.clear)) for one in sources.values()]
    for scene, method in headers_bar(pairs):
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


def _measure(
    truth: SceneSet, methods: Sequence[Method], saving: Saving, evaluation: Evaluation
) -> None:
    table, problems = evaluation.table, evaluation.problems
    total = len(truth.clear) * len(methods)
    with tqdm(total=total, desc="Measuring", unit="image", leave=False, disable=None) as bar:
        for scene, title in enumerate(table.images):
            try:
                clear = truth.clear.read(scene)
            except KTDNError as error:
                problems.append(f"ground truth: {error}")
                bar.update(len(methods))
                continue
            for method in methods:
                try:
                    image = method.read(scene)
                except KTDNError as error:
                    problems.append(f"{method.name}: {error}")
                    bar.update()
                    continue
                saving.save(method.name, scene, image)
                for measure in table.measures:
                    try:
                        value = measure.compute(image, clear)
                        if math.isnan(value):
                            raise ValueError("returned nan")
                        table.add(title, method.name, measure.name, value)
                    except ValueError as error:
                        what = f"{method.name}: {method.describe(scene)}"
                        problems.append(f"{what} has no {measure.name}: {error}")
                bar.update()
