"""``ktdn demo``: from photographs to dehazed results, on any machine in minutes.

It makes a small dataset, then runs the same commands as a user would: ``dehaze`` with the network
that comes with the package, ``train`` for a teacher, ``train`` for a student, ``test``; last it
draws a picture of what came out.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ktdn_plugin.console import print_lines
from ktdn_plugin.csv_files import write_csv
from ktdn_plugin.data import make_demo_dataset
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import Measured, measure
from ktdn_plugin.model_zoo.weights import DEFAULT
from ktdn_plugin.option_files import options_folder
from ktdn_plugin.photos import read_rgb, write_rgb
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.sheets import comparison_sheet
from ktdn_plugin.subcommands import run_subcommand
from ktdn_plugin.text_tables import table_lines

TEXTS = (
    f"{DEFAULT}, already trained, dehazes photographs it has never seen",
    "teacher: learns to reconstruct clear photographs",
    "student: learns to dehaze, with the teacher's knowledge",
    "test: the student dehazes photographs it has never seen",
)


SPLIT = "demo-val"  # as the options files name it
DEHAZE = (
    *("dehaze", "data/val/hazy", "--gt", "data/val/clear", "--split", SPLIT),
    *("-o", "dehazed", "--overwrite"),
)

# What the configs train, after as many iterations as they say.
TEACHER, STUDENT = "work_dirs/train_teacher/iter_600.pth", "work_dirs/train_ktdn/iter_1000.pth"


class Toolbox(NamedTuple):
    """How a toolbox runs the demo.

    Attributes:
        options: The folder of its options files, of which a copy goes to the demo's folder.
        stages: Words of the commands that train and test.
        override: The flag that changes a training stage's options.
        results: Where the test saves a photograph, by its name.
    """

    options: str
    stages: tuple[tuple[str, ...], ...]
    override: str
    results: str


TOOLBOXES = {
    "basicsr": Toolbox(
        "demo",
        (
            ("train", "-opt", "options/train_teacher.yml"),
            ("train", "-opt", "options/train_ktdn.yml"),
            ("test", "-opt", "options/test_ktdn.yml"),
        ),
        "--force_yml",
        "results/demo_test/visualization/demo_val/{}_demo_test.png",
    ),
    "mmengine": Toolbox(
        "mmengine",
        (
            ("mmengine", "train", "options/demo/train_teacher.py"),
            ("mmengine", "train", "options/demo/train_ktdn.py"),
            (
                "mmengine",
                "test",
                "options/demo/train_ktdn.py",
                "work_dirs/train_ktdn/iter_1000.pth",
            ),
        ),
        "--cfg-options",
        "work_dirs/train_ktdn/results/{}.png",
    ),
}
METHODS = ("hazy", DEFAULT, "student")


def run_demo(
    output: Path,
    seed: int = 0,
    toolbox: str | None = None,
    *,
    force_yml: Sequence[str] = (),
    cfg_options: Sequence[str] = (),
) -> None:
    """Runs the demo.

    Args:
        output: Folder to write to: ``data``, ``options``, the runs' folders, ``metrics.csv`` and
            ``comparison.png``. An earlier demo's runs are moved aside.
        seed: Seed of the training photographs' haze.
        toolbox: ``basicsr`` or ``mmengine``; by default BasicSR where it is installed.
        force_yml: Changes to the two training stages' options, for ``basicsr``.
        cfg_options: The same for ``mmengine``.

    Raises:
        KTDNError: If the changes are for the other toolbox, the folder cannot be written, or a
            stage fails.
    """
    output = output.absolute()
    if toolbox is None:
        toolbox = "basicsr" if importlib.util.find_spec("basicsr") else "mmengine"
        if toolbox == "mmengine":
            print_lines("BasicSR is not installed (ktdn install-basicsr): mmengine trains instead")
    how = TOOLBOXES[toolbox]
    given = {"--force_yml": force_yml, "--cfg-options": cfg_options}
    for flag, values in given.items():
        if values and flag != how.override:
            raise KTDNError(f"{flag}: with --toolbox {toolbox} the flag is {how.override}")
    overrides = given[how.override]
    print_lines(f"Demo in {output}")
    make_demo_dataset(output / "data", seed)
    _copy_options(options_folder() / how.options, output / "options")
    stages = [DEHAZE, *how.stages]
    for number, (words, text) in enumerate(zip(stages, TEXTS, strict=True), start=1):
        print_lines("", f"[{number}/{len(TEXTS)}] {text}")
        changes = list(overrides) if "train" in words else []
        if toolbox == "mmengine" and overrides:
            words, more = _after_other_iterations(output, words)
            changes += more
        try:
            run_subcommand([*words, *([how.override, *changes] if changes else [])], output)
        except KTDNError as error:
            raise KTDNError(f"the demo stopped: {error}") from error
    _show(output, how.results)


def _copy_options(source: Path, folder: Path) -> None:
    try:
        shutil.copytree(
            source, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    except OSError as error:
        raise KTDNError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _after_other_iterations(
    output: Path, words: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Names the existing checkpoints: mmengine's names contain the number of iterations."""

    def newest(default: str) -> str:
        files = (output / default).parent.glob("iter_*.pth")
        numbers = [int(file.stem.removeprefix("iter_")) for file in files]
        return str(Path(default).with_name(f"iter_{max(numbers)}.pth")) if numbers else default

    changes = []
    if words[-1].endswith("train_ktdn.py"):
        teacher = newest(TEACHER)
        changes = [f"model.teacher_checkpoint={teacher}"]
    return tuple(newest(word) if word == STUDENT else word for word in words), changes


def _show(output: Path, results: str) -> None:
    names, rows, table = [], [], []
    for clear_path in list_images(output / "data" / "val" / "clear"):
        name = clear_path.stem
        clear = read_rgb(clear_path)
        paths = f"data/val/hazy/{clear_path.name}", f"dehazed/{name}.png", results.format(name)
        images = [read_rgb(output / path) for path in paths]
        measured = [measure(image, clear) for image in images]
        captions = [one.text(" dB") for one in measured]
        rows.append((*zip(images, captions, strict=True), (clear, name)))
        names.append(name)
        table.append(measured)
    _write_table(output / "metrics.csv", names, table)
    columns = ("hazy", DEFAULT, "the demo's student", "clear")
    write_rgb(output / "comparison.png", comparison_sheet(rows, columns, max_cell_width=360))
    shown = [
        [name, *(Measured(*one).text() for one in figures)]
        for name, figures in zip([*names, "mean"], [*table, np.mean(table, axis=0)], strict=True)
    ]
    print_lines("", *table_lines([["PSNR / SSIM", *METHODS], *shown]))
    print_lines("", f"Picture: {output / 'comparison.png'}", f"Table:   {output / 'metrics.csv'}")


def _write_table(path: Path, names: Sequence[str], table: Sequence[Sequence[Measured]]) -> None:
    lines = [
        (SPLIT, name, method, f"{one.psnr:.4f}", f"{one.ssim:.4f}")
        for name, measured in zip(names, table, strict=True)
        for method, one in zip(METHODS, measured, strict=True)
    ]
    write_csv(path, [("split", "image", "method", "psnr", "ssim"), *lines])
