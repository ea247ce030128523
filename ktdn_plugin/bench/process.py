"""A variant in a process of its own, so that its peak memory is its own.

The process (``python -m ktdn_plugin.bench.SOMETHING``) takes one step for each line that it reads,
and answers each with a line of JSON. It ends when its input does: it never outlives the process
that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from ktdn_plugin.errors import KTDNError, is_out_of_memory, out_of_memory_line

LONGEST_REASON = 160


class WorkerError(Exception):
    """A worker cannot go on; the message is one line."""


class WorkerProcess:
    """The process of one variant, as seen by the one that started it.

    Args:
        module: The module that it runs; its ``main`` calls :func:`serve`.
        job: What it is to run; plain values.
    """

    def __init__(self, module: str, job: Mapping[str, Any]) -> None:
        # A checkout that is not installed is found in the same place.
        here = str(Path(__file__).absolute().parents[2])
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH")) if part)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(dict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            encoding="utf-8",
        )

    def ask(self) -> dict[str, Any]:
        """Has one step taken; the first one builds the networks before it.

        Raises:
            WorkerError: If the worker cannot, or died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # it is gone already
            line = ""
        if not line:
            raise WorkerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return dict(answer)

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):  # what was left to write has no reader
                file.close()  # type: ignore[union-attr]

    def _last_words(self) -> str:
        code = self._process.wait()
        if code == -getattr(signal, "SIGKILL", 9):
            return "killed by the system, most likely out of memory: lower batch size or image size"
        if code < 0:
            return f"its process was ended by signal {-code}"
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line]
        last = f": {lines[-1].strip()}" if lines else ""
        return textwrap.shorten(f"its process ended with status {code}{last}", LONGEST_REASON)


def explain(error: BaseException) -> str:
    """Returns an error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KTDNError) and lines:
        return lines[0]
    text = lines[0] if lines else ""
    # A compiler's error comes wrapped: "backend='inductor' raised:" and, below it, what it was.
    if text.endswith(":") and len(lines) > 1:
        text = lines[1]
    if is_out_of_memory(error):
        return textwrap.shorten(out_of_memory_line(error, "batch size or image size"), 160)
    name = type(error).__name__
    return textwrap.shorten(f"{name}: {text}" if text else name, LONGEST_REASON)


def serve(steps: Callable[[dict[str, Any], Callable[[], Any]], Iterable[dict[str, Any]]]) -> None:
    """Is the process: runs the job in ``sys.argv[1]``, a step for each line of standard input.

    Args:
        steps: Gets the job, and a function that waits for the next line; gives an answer for each.
    """
    # Ctrl-C reaches the whole group of processes; the first one ends the others by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, commands), daemon=True).start()
    try:
        for answer in steps(json.loads(sys.argv[1]), commands.get):
            _say(answers, answer)
    except Exception as error:
        _say(answers, {"error": explain(error)})


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _listen(source: TextIO, commands: queue.Queue[str]) -> None:
    for line in source:
        commands.put(line)
    # The other end is closed: its process is gone, and nobody waits for the step under way.
    os._exit(0)
