"""Measures what the record of a million dehazed photographs costs a command that resumes.

    python tests/bench/million_rows.py [ROWS]

No photograph is dehazed; the rows are as long as real ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from ktdn_plugin.dehaze.journal import FOLDER, Results
from ktdn_plugin.storage.journal import JournalFile
from ktdn_plugin.system_memory import resident

LOOKUPS = 1000


def row(number: int) -> dict[str, object]:
    name = f"{number // 1000:04d}/photo_{number:07d}.jpg"
    return {
        "name": name,
        "stamp": [3_000_000 + number, 1_790_000_000_000_000_000 + number],
        "checkpoint": {"name": "ktdn_small", "sha256": "0" * 64},
        "precision": "float32",
        "quality": None,
        "strength": 1.0,
        "base_size": "auto",
        "source": {"path": f"/photos/{name}", "sha256": "1" * 64},
        "result": "2" * 64,
    }


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / FOLDER).mkdir()
        start = time.perf_counter()
        for number in range(100):
            JournalFile(folder / FOLDER / "appended").append(row(number))
        print(f"append, on disk: {(time.perf_counter() - start) * 10:.2f} ms a row")
        path = folder / FOLDER / "rows.jsonl"
        with path.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(row(number)) + "\n" for number in range(rows))
        print(f"{rows:,} rows: {path.stat().st_size / 1e6:.0f} MB")
        before = resident()
        start = time.perf_counter()
        results = Results(folder)
        print(f"open: {time.perf_counter() - start:.1f} s, {(resident() - before) / 1e6:.0f} MB")
        start = time.perf_counter()
        for number in range(LOOKUPS):
            assert results.find(str(row(number * rows // LOOKUPS)["name"])) is not None
        print(
            f"find: {(time.perf_counter() - start) / LOOKUPS * 1e6:.0f} microseconds a photograph"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
