"""``ktdn demo``: its plumbing on few iterations, and a whole run's result where there is one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ktdn_plugin.cli import main
from ktdn_plugin.model_zoo.weights import DEFAULT
from ktdn_plugin.photos import read_rgb

WHOLE_RUN = Path(__file__).parent.parent / "demo"
SHORT = (
    "train:total_iter=2",
    "train:scheduler:periods=[2]",
    "datasets:train:gt_size=64",
    "datasets:train:batch_size_per_gpu=2",
)


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_demo_runs_all_stages_and_draws_the_result(run, tmp_path: Path) -> None:
    done = run("demo", "-o", "out", "--force_yml", *SHORT)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    photos = {path.stem for path in (out / "data/val/clear").iterdir()}
    assert {row["image"] for row in read_table(out)} == photos
    assert min(read_rgb(out / "comparison.png").shape[:2]) > 300
    assert {path.stem for path in (out / "dehazed").glob("*.png")} == photos
    assert (out / "experiments/demo_teacher/models/net_g_latest.pth").is_file()
    assert (out / "experiments/demo_student/models/net_g_latest.pth").is_file()
    assert str(out / "comparison.png") in done.stdout
    # The very commands are shown, so that a person can go on with them.
    assert "ktdn dehaze data/val/hazy --gt data/val/clear" in done.stdout
    assert "ktdn train -opt options/train_ktdn.yml" in done.stdout


@pytest.mark.usefixtures("preloaded_commands")
def test_demo_by_mmengine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes = ("train_cfg.max_iters=2", "train_dataloader.batch_size=1")
    out = tmp_path / "out"
    words = ["demo", "-o", str(out), "--toolbox", "mmengine", "--cfg-options", *changes]
    code = main(words)
    said = capfd.readouterr()
    assert code == 0, said.err
    photos = {path.stem for path in (out / "data/val/clear").iterdir()}
    assert {row["image"] for row in read_table(out)} == photos
    assert {path.stem for path in (out / "work_dirs/train_ktdn/results").iterdir()} == photos
    assert min(read_rgb(out / "comparison.png").shape[:2]) > 300
    assert "ktdn mmengine train options/demo/train_ktdn.py" in said.out


def test_demo_flag_of_the_other_toolbox(run) -> None:
    done = run("demo", "-o", "out", "--toolbox", "mmengine", "--force_yml", "train:total_iter=2")
    assert done.returncode == 1
    assert "--force_yml: with --toolbox mmengine the flag is --cfg-options" in done.stderr


@pytest.mark.usefixtures("preloaded_commands")
def test_demo_stops_at_a_failing_stage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["demo", "-o", str(out), "--force_yml", "train:total_itre=2"]) == 1
    said = capfd.readouterr().err
    assert "did you mean 'total_iter'?" in said
    assert said.splitlines()[-1].startswith("error: the demo stopped")
    assert not (tmp_path / "out/experiments").exists()


def test_demo_folder_that_is_in_use(run, tmp_path: Path) -> None:
    (tmp_path / "out/data").mkdir(parents=True)
    (tmp_path / "out/data/mine.txt").write_text("mine")
    done = run("demo", "-o", "out")
    assert done.returncode == 1
    assert "is not a demo dataset" in done.stderr
    assert (tmp_path / "out/data/mine.txt").read_text() == "mine"


@pytest.mark.skipif(
    not (WHOLE_RUN / "metrics.csv").is_file(), reason="needs a whole 'ktdn demo' run in ./demo"
)
def test_whole_demo_gains_on_every_photo() -> None:
    """What was trained before by 3.5 dB at least, what was trained for minutes by 2."""
    found = {(row["image"], row["method"]): row for row in read_table(WHOLE_RUN)}
    for name in {image for image, _ in found}:
        for method, gain in ((DEFAULT, 3.5), ("student", 2)):
            hazy, dehazed = found[name, "hazy"], found[name, method]
            assert float(dehazed["psnr"]) >= float(hazy["psnr"]) + gain, dehazed
            assert float(dehazed["ssim"]) > float(hazy["ssim"]), dehazed
