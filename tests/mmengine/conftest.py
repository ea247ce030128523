"""Tiny configs, runs in this process, and commands that must fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from configs import run_stage, student_config, teacher_config, write_config
from helpers import teacher_file

Stage = Callable[..., int]


@pytest.fixture(autouse=True)
def no_formatting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the text of configs as it is: yapf takes a third of a second, thrice for each run.

    Commands that are started as processes format.
    """

    def checked(text: str, **_: object) -> tuple[str, bool]:
        compile(text, "config", "exec")  # what cannot be formatted fails
        return text, False

    monkeypatch.setattr("mmengine.config.config.FormatCode", checked)


@pytest.fixture
def mmengine_run(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Runs ``ktdn mmengine STAGE`` on a config in this process; gives its exit code."""
    monkeypatch.chdir(pairs)
    return lambda stage, cfg, *flags: run_stage(pairs, stage, cfg, *flags)


@pytest.fixture
def breaks(mmengine_run: Stage, capfd: pytest.CaptureFixture[str]):
    """Runs a command that must fail in the middle; gives the lines of its errors."""

    def run_command(cfg: dict, stage: str = "train", *flags: object) -> list[str]:
        capfd.readouterr()
        assert mmengine_run(stage, cfg, *flags) == 1
        lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        # What libraries say by themselves.
        others = ("Warning", "warnings.warn", "libpng error")
        lines = [line for line in lines if not any(text in line for text in others)]
        assert all(line.startswith("error: ") for line in lines), lines
        return lines

    return run_command


@pytest.fixture
def fails(pairs: Path, breaks: Callable[..., list[str]]):
    """Runs a command that must fail before anything is written; gives the lines of its errors."""

    def run_command(cfg: dict, stage: str = "train", *flags: object) -> list[str]:
        before = {*pairs.rglob("*"), pairs / "config.py"}
        lines = breaks(cfg, stage, *flags)
        assert {*pairs.rglob("*")} == before, "something was written"
        return lines

    return run_command


@pytest.fixture
def teacher_cfg(pairs: Path) -> Path:
    """The file of a tiny teacher's config."""
    return write_config(pairs, teacher_config(), "teacher_cfg.py")


@pytest.fixture
def student_cfg(pairs: Path) -> Path:
    """The file of a tiny student's config, whose teacher is there."""
    teacher_file(pairs)
    return write_config(pairs, student_config(), "student_cfg.py")
