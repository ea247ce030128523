"""Every fuzzer runs, counts, and finds nothing in its first cases."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from preloaded import Command

FOLDER = Path(__file__).with_name("fuzz")
FUZZERS = {path.stem for path in FOLDER.glob("*.py")} - {"__main__", "figures"}


def fuzz(*words: str, folder: Path) -> str:
    done = Command(words, folder, {}, FOLDER / "__main__.py").wait(240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_first_cases_of_every_fuzzer(tmp_path: Path) -> None:
    said = fuzz("--seconds", "1", "--seed", "0", folder=tmp_path)
    counts = dict(re.findall(r"^(\w+): (\d+) cases in ", said, re.MULTILINE))
    assert counts.keys() == FUZZERS, said
    assert all(int(count) > 0 for count in counts.values()), said


def test_seed_is_the_date_where_none_is_given(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc)
    said = fuzz("stores", "--seconds", "0", folder=tmp_path).splitlines()[0]
    assert said in {f"seed {day:%Y%m%d}" for day in (before, before + timedelta(days=1))}
