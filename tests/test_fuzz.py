"""Every fuzzer runs, counts, and finds nothing in its first cases."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

FOLDER = Path(__file__).with_name("fuzz")
FUZZERS = {path.stem for path in FOLDER.glob("*.py")} - {"__main__", "figures"}


def fuzz(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER), *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_first_cases_of_every_fuzzer() -> None:
    said = fuzz("--seconds", "2", "--seed", "0")
    counts = dict(re.findall(r"^(\w+): (\d+) cases in ", said, re.MULTILINE))
    assert counts.keys() == FUZZERS, said
    assert all(int(count) > 0 for count in counts.values()), said


def test_seed_is_the_date_where_none_is_given() -> None:
    before = datetime.now(timezone.utc)
    said = fuzz("stores", "--seconds", "0").splitlines()[0]
    assert said in {f"seed {day:%Y%m%d}" for day in (before, before + timedelta(days=1))}
