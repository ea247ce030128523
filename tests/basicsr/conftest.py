"""Commands that must fail, in one process and in two; and commands run in this process."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import records_of, write_options

from ktdn_plugin import cli

LOADING = 600  # seconds; two processes load torch and the toolboxes, beside other tests
PATIENCE = 60  # seconds until a process that has loaded everything counts as hanging


class Pair:
    """Two processes that run commands together."""

    def __init__(self) -> None:
        self.processes = [self._start(rank) for rank in range(2)]
        for rank in range(2):
            assert self._next_line(rank, LOADING) == "ready\n", f"process {rank} did not start"

    def _start(self, rank: int) -> subprocess.Popen:
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("serve_commands.py"))],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", **place},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, *words: str) -> list[dict]:
        """Runs a command; gives each process' exit code and what it printed as errors."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        request = json.dumps({"folder": str(folder), "words": words, "port": port})
        for process in self.processes:
            print(request, file=process.stdin, flush=True)
        return [json.loads(self._next_line(rank, PATIENCE)) for rank in range(2)]

    def _next_line(self, rank: int, patience: float) -> str:
        process = self.processes[rank]
        ready, _, _ = select.select([process.stdout], [], [], patience)
        if not ready:
            self.close()
            pytest.fail(f"process {rank} of {process.args} is silent for {patience} s")
        return process.stdout.readline()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def is_alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)


@pytest.fixture(scope="session")
def _pairs_of_processes() -> Iterator[list[Pair]]:
    started: list[Pair] = []
    yield started
    for pair in started:
        pair.close()


@pytest.fixture
def two_processes(_pairs_of_processes: list[Pair]) -> Pair:
    """Two processes that have loaded everything already."""
    if not _pairs_of_processes or not _pairs_of_processes[-1].is_alive():
        _pairs_of_processes.append(Pair())
    return _pairs_of_processes[-1]


@pytest.fixture(params=[1, 2], ids=["one", "two"])
def fails(
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
):
    """Runs a command that must fail, in one process and in two; gives the lines it printed."""
    monkeypatch.chdir(pairs)
    together = request.getfixturevalue("two_processes") if request.param == 2 else None

    def run_command(opt: dict | str, command: str = "train", *flags: str) -> list[str]:
        path = opt if isinstance(opt, str) else str(write_options(pairs, opt, "options.yml"))
        before = {p for p in pairs.rglob("*")}
        words = [command, "-opt", path, *flags]
        if together is None:
            capfd.readouterr()
            assert cli.main(words) == 1
            texts = [capfd.readouterr().err]
        else:
            answers = together.run(pairs, *words)
            assert [answer["code"] for answer in answers] == [1, 1]
            texts = [answer["errors"] for answer in answers]
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
