"""``ktdn demo``: the whole way from photographs to dehazed pictures, on any machine in minutes.

It makes a small dataset, then runs the very commands a person would: ``train`` for the teacher,
``train`` for the student, ``test``; last it draws a picture of what came out.
"""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from ktdn_plugin.basicsr.measure import Measured, measure
from ktdn_plugin.data import make_demo_dataset
from ktdn_plugin.data.images import list_images, read_image
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.option_files import options_folder
from ktdn_plugin.pictures import comparison_sheet, write_image

STAGES = (
    ("train", "train_teacher.yml", "teacher: learns to reconstruct clear photographs"),
    ("train", "train_ktdn.yml", "student: learns to dehaze, with the teacher's knowledge"),
    ("test", "test_ktdn.yml", "test: dehazes photographs it has never seen"),
)
RESULTS = Path("results", "demo_test", "visualization", "demo_val")
SPLIT = "demo-val"  # as the options files name it


def run_demo(output: Path, seed: int = 0, overrides: Sequence[str] = ()) -> None:
    """Runs the demo.

    Args:
        output: Folder to write to: ``data``, ``options``, ``experiments``, ``results``,
            ``metrics.csv`` and ``comparison.png``. An earlier demo's runs are kept aside.
        seed: Seed of the training photographs' haze.
        overrides: ``key:key=value`` changes to the two training stages' options.

    Raises:
        KTDNError: If the folder cannot be written, or a stage fails.
    """
    output = output.absolute()
    print(f"Demo in {output}", flush=True)
    make_demo_dataset(output / "data", seed)
    _copy_options(output / "options")
    for number, (command, options, text) in enumerate(STAGES, start=1):
        print(f"\n[{number}/{len(STAGES)}] {text}", flush=True)
        _run_stage(output, command, options, overrides if command == "train" else ())
    _show(output)


def _copy_options(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _, options, _ in STAGES:
            shutil.copyfile(options_folder() / "demo" / options, folder / options)
    except OSError as error:
        raise KTDNError(f"{folder}: cannot be written ({error.strerror})") from error


def _run_stage(output: Path, command: str, options: str, overrides: Sequence[str]) -> None:
    words = ["ktdn", command, "-opt", f"options/{options}"]
    words += ["--force_yml", *overrides] if overrides else []
    print(f"$ cd {shlex.quote(str(output))} && {shlex.join(words)}", flush=True)
    # One process: the demo may itself run under a launcher, whose variables are not its stages'.
    launched = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    launched |= {"SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}
    environment = {key: value for key, value in os.environ.items() if key not in launched}
    # The stage runs in another folder, where a checkout that is not installed is not found.
    here = str(Path(str(resources.files("ktdn_plugin"))).absolute().parent)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (here, environment.get("PYTHONPATH")) if part
    )
    done = subprocess.run(
        [sys.executable, "-m", "ktdn_plugin", *words[1:]], cwd=output, env=environment, check=False
    )
    if done.returncode:
        raise KTDNError(f"the demo stopped: '{shlex.join(words)}' failed, see above")


def _show(output: Path) -> None:
    names, rows, table = [], [], []
    for clear_path in list_images(output / "data" / "val" / "clear"):
        name = clear_path.stem
        hazy = read_image(output / "data" / "val" / "hazy" / clear_path.name)
        dehazed = read_image(output / RESULTS / f"{name}_demo_test.png")
        clear = read_image(clear_path)
        before, after = measure(hazy, clear), measure(dehazed, clear)
        rows.append(((hazy, _caption(before)), (dehazed, _caption(after)), (clear, name)))
        names.append(name)
        table.append((*before, *after))
    _write_table(output / "metrics.csv", names, table)
    write_image(output / "comparison.png", comparison_sheet(rows))
    print("\nphoto        hazy PSNR / SSIM    dehazed PSNR / SSIM")
    for name, row in zip([*names, "mean"], [*table, np.mean(table, axis=0)], strict=True):
        print(f"{name:12} {row[0]:9.2f} / {row[1]:.3f} {row[2]:15.2f} / {row[3]:.3f}")
    print(f"\nPicture: {output / 'comparison.png'}\nTable:   {output / 'metrics.csv'}")


def _caption(measured: Measured) -> str:
    return f"{measured.psnr:.2f} dB / {measured.ssim:.3f}"


def _write_table(path: Path, names: Sequence[str], table: Sequence[Sequence[float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        measured = ("hazy_psnr", "hazy_ssim", "dehazed_psnr", "dehazed_ssim")
        writer.writerow(("split", "photo", *measured))
        for name, row in zip(names, table, strict=True):
            writer.writerow((SPLIT, name, *(f"{value:.4f}" for value in row)))
