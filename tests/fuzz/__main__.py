"""Runs the fuzzers for a given time with a given seed, and prints what they counted.

``python tests/fuzz --seconds 60 --seed 0`` runs all of them for a minute each; without a seed it is
the date, so that every night tries other cases, and any night can be repeated.
``python tests/fuzz checkpoints stores`` runs some. Each is a module beside this one with a function
``run(seed, seconds, folder)`` that returns :class:`figures.Figures`. The exit code is 1 where any
case went wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = ("__main__", "figures")


def main() -> int:
    """Runs the fuzzers that are named."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in HELPERS)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("fuzzers", nargs="*", choices=[*names, []], metavar="FUZZER")
    parser.add_argument("--seconds", type=float, default=60, help="how long each runs; default 60")
    parser.add_argument("--seed", type=int, default=int(f"{datetime.now(timezone.utc):%Y%m%d}"))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    faults = 0
    for name in arguments.fuzzers or names:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            figures = importlib.import_module(name).run(
                arguments.seed, arguments.seconds, Path(folder)
            )
        counts = ", ".join(f"{outcome} {n}" for outcome, n in figures.outcomes.most_common())
        cases = sum(figures.outcomes.values())
        print(f"{name}: {cases} cases in {time.monotonic() - start:.0f} s: {counts}", flush=True)
        for line in figures.faults[:20]:
            print(f"  {line}")
        faults += len(figures.faults)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
