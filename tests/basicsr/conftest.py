"""Commands that must fail, in one process and in two; and commands run in this process."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("BasicSR is not installed: ktdn install-basicsr", allow_module_level=True)

from helpers import records_of, write_options
from preloaded import together

from ktdn_plugin import cli


@pytest.fixture
def fails(
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
):
    """Runs a command that must fail; gives the lines it printed.

    In one process; where the test says so by :data:`helpers.in_one_and_two`, in two as well.
    """
    monkeypatch.chdir(pairs)
    processes = getattr(request, "param", 1)

    def run_command(opt: dict | str, command: str = "train", *flags: str) -> list[str]:
        path = opt if isinstance(opt, str) else str(write_options(pairs, opt, "options.yml"))
        before = {p for p in pairs.rglob("*")}
        words = [command, "-opt", path, *flags]
        if processes == 1:
            capfd.readouterr()
            assert cli.main(words) == 1
            texts = [capfd.readouterr().err]
        else:
            done = together(words, [pairs] * processes)
            assert [one.returncode for one in done] == [1, 1]
            texts = [one.stderr for one in done]
        assert {p for p in pairs.rglob("*")} == before, "something was written"
        # Behind the first lines of the log, where the fault is met only when it has been begun.
        texts = [
            re.sub(r"(?s)\A\d{4}-\d\d-\d\d .*?^(?=error: )", "", one, flags=re.M) for one in texts
        ]
        lines = [line for text in texts for line in text.splitlines() if line.strip()]
        lines = [line for line in lines if "Warning" not in line and "[Gloo]" not in line]
        assert all(line.startswith("error: ") for line in lines), lines
        return list(dict.fromkeys(lines))  # both processes may meet the same

    return run_command


@pytest.fixture
def train(pairs: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains in this process, by the command's own function; gives what the run recorded."""
    monkeypatch.chdir(pairs)

    def run_command(opt: dict, *flags: str) -> list[dict]:
        path = write_options(pairs, opt)
        assert cli.main(["train", "-opt", str(path), *flags]) == 0
        return records_of(pairs, opt["name"])

    return run_command
