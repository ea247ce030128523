"""What a run leaves of itself: whole lines, none twice, whatever ended it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training.run_log import (
    METRICS,
    RUN,
    RunLog,
    read_description,
    read_records,
    read_sets,
)

IDENTITY = {"split": "tiny", "fingerprint": "abc"}


def filled(folder: Path, iterations: int = 6) -> RunLog:
    """A run that has validated after every second iteration."""
    log = RunLog(folder)
    log.figures("teacher", 0, "val", IDENTITY, {"psnr": 31.0})
    for iteration in range(1, iterations + 1):
        log.training(iteration, [0.1], {"l_rec": 1 / iteration}, (0.5, 0.1), 4)
        if iteration % 2 == 0:
            log.figures("val", iteration, "val", IDENTITY, {"PSNR": float(iteration)})
    return log


def lines(folder: Path) -> list[tuple[str, int]]:
    return [(row["kind"], row["iter"]) for row in map(json.loads, text(folder).splitlines())]


def text(folder: Path) -> str:
    return (folder / METRICS).read_text()


def describe(log: RunLog, **changes: object) -> None:
    known: dict = {
        "name": "run",
        "toolbox": "BasicSR 1.4.2",
        "stage": "student",
        "options": {"train": {"lr": (1e-4, math.inf)}, 3: Path("x")},
        "data": {"val": [{"name": "val", **IDENTITY, "options": {"dataroot_gt": "val/clear"}}]},
        "seed": 3,
        "device": "cpu",
        "processes": 1,
    }
    log.describe(**known | changes)


def test_a_line_has_what_was_measured(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    measured = log.training(3, [0.1, 0.2], {"l_rec": math.nan, "grad_norm": 2.0}, (0.5, 0.1), 4, 1)
    assert measured["images_per_second"] == 8
    log.figures("val", 4, "NH", IDENTITY, {"PSNR": 20.5, "ssim": None})
    log.figures("val", 4, "without figures", IDENTITY, {})
    training, validation = read_records(tmp_path)
    assert training.pop("memory_gib") > 0.01
    assert training == {
        "kind": "train",
        "iter": 3,
        "epoch": 1,
        "lr": [0.1, 0.2],
        "l_rec": None,
        "grad_norm": 2.0,
        "seconds": 0.5,
        "images_per_second": 8.0,
        "data_share": 0.2,
    }
    assert validation == {"kind": "val", "iter": 4, "set": "NH", **IDENTITY, "psnr": 20.5} | {
        "ssim": None
    }


def test_a_resumed_run_drops_what_it_does_again(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = text(tmp_path).splitlines(keepends=True)
    with log.metrics.open("a") as file:
        file.write('{"kind": "train", "iter": 7, "l_re')
    # Saved at 4, and ended before the validation of 4 was done.
    assert log.start(4, validated=2) == (
        f"{log.metrics}: lines dropped: 4 after iteration 4, 1 cut off or broken."
    )
    wanted = [("teacher", 0), ("train", 1), ("train", 2), ("val", 2), ("train", 3), ("train", 4)]
    assert lines(tmp_path) == wanted
    assert text(tmp_path) == "".join(before[:6])
    assert log.start(4, validated=2) == ""
    log.figures("val", 4, "val", IDENTITY, {"psnr": 4.0})
    assert lines(tmp_path) == [*wanted, ("val", 4)]


def test_a_last_line_without_its_end_is_whole(tmp_path: Path) -> None:
    log = filled(tmp_path, 2)
    log.metrics.write_text(text(tmp_path).rstrip("\n"))
    log.start(1)
    log.training(2, [0.1], {}, (0.5, 0.1), 4)
    assert lines(tmp_path) == [("teacher", 0), ("train", 1), ("train", 2)]


def test_a_new_run_begins_with_an_empty_log(tmp_path: Path) -> None:
    assert filled(tmp_path).start(0)
    assert text(tmp_path) == ""


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    before = text(tmp_path)
    log = RunLog(tmp_path, writes=False)
    assert log.start(2) == ""
    log.training(9, [0.1], {}, (0.5, 0.1), 4)
    describe(log)
    assert text(tmp_path) == before
    assert not (tmp_path / RUN).exists()


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    program = (
        "import itertools, sys\n"
        "from ktdn_plugin.training.run_log import RunLog\n"
        "log = RunLog(sys.argv[1])\n"
        "for iteration in itertools.count(1):\n"
        "    log.training(iteration, [0.1], {f'l_{n}': 0.1 for n in range(50)}, (1, 0), 1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    while process.poll() is None:
        if (tmp_path / METRICS).exists() and (tmp_path / METRICS).stat().st_size > 100_000:
            os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    found = [record["iter"] for record in read_records(tmp_path)]
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 50
    log = RunLog(tmp_path)
    log.start(found[-1] - 5)
    log.training(found[-1] - 4, [0.1], {}, (1, 0), 1)
    assert [record["iter"] for record in read_records(tmp_path)] == found[:-4]


def test_a_run_tells_what_it_is_and_what_it_was_resumed_from(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    assert not log.is_started
    describe(log)
    first = read_description(tmp_path)
    assert first is not None
    assert first["options"] == {"train": {"lr": [1e-4, "inf"]}, "3": "x"}
    assert (first["resumed_from"], first["earlier"]) == (None, [])
    assert first["versions"].keys() == {"ktdn_plugin", "python", "torch", "timm"}
    describe(log, resumed_from=("run/5.state", 5), device="cuda")
    second = read_description(tmp_path)
    assert second is not None
    assert second["resumed_from"] == {"file": "run/5.state", "iteration": 5}
    assert [one["device"] for one in second["earlier"]] == ["cpu"]
    describe(log)  # anew
    assert (read_description(tmp_path) or {})["earlier"] == []


def test_a_test_adds_its_sets_to_the_training(tmp_path: Path) -> None:
    log, tested = RunLog(tmp_path), [{"name": "test", "options": {"split": "b"}}]
    assert not log.describe_test(tested)
    describe(log)
    assert log.describe_test(tested)
    assert [one.name for one in read_sets(tmp_path) or ()] == ["val", "test"]
    describe(log, stage="test")
    assert not log.describe_test(tested)


def test_sets_are_found_where_the_project_has_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, moved = tmp_path / "here", tmp_path / "moved"
    (here / "experiments" / "run").mkdir(parents=True)
    (here / "val" / "clear").mkdir(parents=True)
    monkeypatch.chdir(here)
    describe(RunLog("experiments/run"))
    monkeypatch.chdir(tmp_path)

    def root_of(folder: Path) -> str:
        (saved,) = read_sets(folder) or ()
        return str(saved.options["dataroot_gt"])

    assert root_of(here / "experiments" / "run") == str(here / "val" / "clear")
    here.rename(moved)
    assert root_of(moved / "experiments" / "run") == str(moved / "val" / "clear")


def test_without_a_description(tmp_path: Path) -> None:
    assert read_description(tmp_path) is None
    assert read_sets(tmp_path) is None
    (tmp_path / RUN).write_text("{")
    with pytest.raises(KTDNError, match=r"run\.json: not written by a run; remove it"):
        read_sets(tmp_path)
