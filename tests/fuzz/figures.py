"""What a fuzzer counts, and how it calls the code under test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figures:
    """Counts the outcomes of one fuzzer's cases.

    Attributes:
        outcomes: Outcome to its number of cases.
        faults: One line for each case that went wrong, with what repeats it.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        """Counts a case that went as it should, such as ``"read"`` or ``"refused"``."""
        self.outcomes[outcome] += 1

    def fault(self, kind: str, case: str) -> None:
        """Counts a case that went wrong.

        Args:
            kind: Such as ``"traceback"``, ``"signal 11"`` or ``"no answer"``.
            case: What repeats it: its number, and what was changed.
        """
        self.outcomes[kind] += 1
        self.faults.append(f"{kind}: {case}")


def outcome_of(
    words: Sequence[str], folder: Path, *, seconds: float = 60, env: dict[str, str] | None = None
) -> tuple[str, str]:
    """Runs a Python command in a process of its own, as a person would.

    Args:
        words: What follows ``python``, such as ``("-m", "ktdn_plugin", "info", "x.pth")``.
        folder: Where it is run.
        seconds: How long to wait for an answer.
        env: Environment variables to set.

    Returns:
        ``"done"``, ``"refused"`` (exit code 1 or 2 with at least one line and no traceback),
        ``"traceback"``, ``"silent"``, ``"signal N"``, ``"exit N"`` or ``"no answer"``; and what
        was printed to standard error.
    """
    try:
        result = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        return "no answer", (error.stderr or b"").decode("utf-8", "replace")
    said = result.stderr.decode("utf-8", "replace")
    if result.returncode < 0:
        return f"signal {-result.returncode}", said
    if "Traceback (most recent call last)" in said:
        return "traceback", said
    if result.returncode == 0:
        return "done", said
    if result.returncode not in (1, 2):
        return f"exit {result.returncode}", said
    return ("refused" if said.strip() else "silent"), said
