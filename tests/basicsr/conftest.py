"""A command that must fail: what it printed, and that it wrote nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import write_options

from ktdn_plugin import cli


@pytest.fixture
def fails(pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command that must fail; gives the lines it printed as errors."""
    monkeypatch.chdir(pairs)

    def run_command(opt: dict | str, command: str = "train", *flags: str) -> list[str]:
        path = opt if isinstance(opt, str) else str(write_options(pairs, opt, "options.yml"))
        before = {p for p in pairs.rglob("*")}
        assert cli.main([command, "-opt", path, *flags]) == 1
        assert {p for p in pairs.rglob("*")} == before, "something was written"
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        lines = [line for line in lines if "Warning" not in line]
        assert all(line.startswith("error: ") for line in lines), lines
        return lines

    return run_command
