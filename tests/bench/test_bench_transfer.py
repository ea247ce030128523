"""The measuring of knowledge transfer: its trainings, its table, and what it refuses."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import pytest
import torch
from helpers import models, student_of_a_saved_teacher, write_options

from ktdn_plugin.bench.transfer import Figure, format_transfer_table
from ktdn_plugin.cli import main


@pytest.mark.slow
@pytest.mark.usefixtures("preloaded_commands")
def test_three_trainings_for_a_seed(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pairs)
    opt = student_of_a_saved_teacher(pairs)
    opt["train"] |= {"total_iter": 2, "teacher_min_psnr": 1}
    path = write_options(pairs, opt)
    words = ["bench", "transfer", "-opt", str(path), "--seeds", "5"]
    assert main(words) == 0
    said = capfd.readouterr().out
    assert "[3/3] trained teacher, seed 5, about" in said
    rows = list(csv.DictReader((pairs / "experiments/student_transfer.csv").open()))
    assert [(row["variant"], row["metric"]) for row in rows] == [
        (variant, metric)
        for variant in ("without", "untrained", "transfer")
        for metric in ("psnr", "ssim")
    ]
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert rows[0]["value"][:5] in table[2]
    students = {
        variant: torch.load(models(pairs, f"student_{variant}_s5") / "net_g_2.pth")["params"]
        for variant in ("without", "untrained", "transfer")
    }
    for one in ("without", "untrained"):
        pairs_of_tensors = zip(students[one].values(), students["transfer"].values(), strict=True)
        assert not all(torch.equal(*both) for both in pairs_of_tensors)
    log = next((pairs / "experiments/student_without_s5").glob("train_*.log")).read_text()
    assert "l_kt" not in log

    files = {p: p.stat().st_mtime_ns for p in pairs.rglob("net_g_2.pth")}
    assert main(words) == 0
    again = capfd.readouterr().out
    assert [line for line in again.splitlines() if line.startswith("|")] == table
    assert {p: p.stat().st_mtime_ns for p in pairs.rglob("net_g_2.pth")} == files


def test_a_training_that_fails(run, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["train"]["total_itre"] = 2
    done = run("bench", "transfer", "-opt", str(write_options(pairs, opt)))
    assert done.returncode == 1
    assert "did you mean 'total_iter'?" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 'ktdn train -opt")
    assert not (pairs / "experiments").exists()


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("train.transfer_opt", "train.transfer_opt: missing; bench transfer needs a transfer loss"),
        ("network_t", "network_t: missing; bench transfer needs a teacher"),
        ("path.pretrain_network_t", "path.pretrain_network_t: missing; bench transfer needs the t"),
        ("val", "val: missing; bench transfer needs validation to compare by"),
    ],
)
def test_options_of_another_training(run, pairs: Path, without: str, message: str) -> None:
    opt = copy.deepcopy(student_of_a_saved_teacher(pairs))
    *sections, key = without.split(".")
    section = opt
    for name in sections:
        section = section[name]
    del section[key]
    path = write_options(pairs, opt)
    done = run("bench", "transfer", "-opt", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_seeds_that_are_equal(run, pairs: Path) -> None:
    path = write_options(pairs, student_of_a_saved_teacher(pairs))
    done = run("bench", "transfer", "-opt", str(path), "--seeds", "1", "2", "1")
    assert done.returncode == 1
    assert done.stderr == "error: --seeds 1 2 1: each seed only once\n"


def test_table_has_mean_spread_and_gain() -> None:
    values = {
        "without": (10.0, 12.0),
        "untrained": (10.5, 12.1),
        "transfer": (11.0, 14.0),
    }
    figures = [
        Figure(variant, seed, "real", "psnr", value)
        for variant, pair in values.items()
        for seed, value in enumerate(pair)
    ]
    lines = format_transfer_table(figures)
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == [
        ["", "real psnr"],
        ["---", "---:"],
        ["no teacher", "11.000 ± 1.414"],
        ["untrained teacher", "11.300 ± 1.131"],
        ["trained teacher", "12.500 ± 2.121"],
        ["gain by untrained teacher", "+0.300 ± 0.283"],
        ["gain by trained teacher", "+1.500 ± 0.707"],
    ]
    assert "±" not in "".join(format_transfer_table([one for one in figures if one.seed == 0]))
