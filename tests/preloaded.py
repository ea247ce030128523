"""Commands in processes of their own that need not load torch and the toolboxes anew.

A server loads them once, and forks for each command: loading takes ten times as long as a tiny
training does. Only what differs from a fresh process is not tested so: what is loaded, and when.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()


@functools.cache
def _server() -> ForkServerContext:
    if not CAN_FORK:
        pytest.skip("this system has no fork, and the test needs a process that has loaded all")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["toolboxes_loaded"])
    # The server gets no sys.path, and passes in silence over what it does not find.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()
    return found


class Command:
    """A running ``python -m ktdn_plugin``, in a session of its own.

    Args:
        words: The command's words.
        folder: Where it runs.
        env: Variables that it gets beside this process' own.
        script: A Python file to run instead, with these words.
    """

    def __init__(
        self,
        words: Sequence[object],
        folder: Path,
        env: Mapping[str, str],
        script: Path | None = None,
    ) -> None:
        self.words = [*([str(script)] if script else []), *(str(word) for word in words)]
        self._folder = tempfile.TemporaryDirectory()
        paths = [str(Path(self._folder.name, name)) for name in ("out", "err")]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        arguments = (self.words, str(folder), variables, paths, script is not None)
        self.process: ForkServerProcess = _server().Process(target=_run, args=arguments)
        self.process.start()

    @property
    def said(self) -> str:
        """What it has printed to standard error so far."""
        return Path(self._folder.name, "err").read_text("utf-8")

    @property
    def printed(self) -> str:
        """What it has printed to standard output so far."""
        file = Path(self._folder.name, "out")
        return file.read_text("utf-8") if file.exists() else ""  # until it has begun

    def wait_until(self, is_so: Callable[[], object], seconds: float = 120) -> None:
        """Waits for what it does to be seen; it must not end before."""
        until = time.monotonic() + seconds
        while not is_so():
            if self.process.exitcode is not None or time.monotonic() > until:
                self.process.kill()
                raise AssertionError(self.said)
            time.sleep(0.005)

    def send(self, number: signal.Signals, *, to_all: bool = False) -> None:
        """Sends it a signal; to its data workers as well, as a job's end does, if asked for."""
        assert self.process.pid is not None
        (os.killpg if to_all else os.kill)(self.process.pid, number)

    def wait(self, seconds: float) -> subprocess.CompletedProcess:
        """Waits for its end.

        Raises:
            subprocess.TimeoutExpired: It takes longer, and has been killed.
        """
        try:
            self.process.join(seconds)
        finally:
            code = self.process.exitcode
            if code is None:
                self.process.kill()
                self.process.join()
        with self._folder as name:
            out, err = (Path(name, one).read_text("utf-8") for one in ("out", "err"))
        if code is None:
            raise subprocess.TimeoutExpired(self.words, seconds, out, err)
        return subprocess.CompletedProcess(self.words, code, out, err)


def start_together(
    words: Sequence[object], folders: Sequence[Path], script: Path | None = None
) -> list[Command]:
    """Starts a command in processes that form one job, as torchrun does, one in each folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {"WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        Command(words, folder, {**job, "RANK": str(rank), "LOCAL_RANK": str(rank)}, script)
        for rank, folder in enumerate(folders)
    ]


def together(
    words: Sequence[object],
    folders: Sequence[Path],
    seconds: float = 300,
    script: Path | None = None,
) -> list[subprocess.CompletedProcess]:
    """Runs a command in processes that form one job, and waits for them.

    Raises:
        subprocess.TimeoutExpired: They take longer, and have been killed.
    """
    commands = start_together(words, folders, script)
    try:
        return [command.wait(seconds) for command in commands]
    finally:
        for command in commands:
            command.process.kill()


def _run(
    words: list[str], folder: str, variables: dict[str, str], paths: list[str], is_script: bool
) -> None:
    os.setsid()
    for number, path in enumerate(("/dev/null", *paths)):
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    # Not multiprocessing's, which has none, nor what was buffered by others.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    multiprocessing.set_start_method("fork", force=True)  # of data workers; here it is the server's
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, folder)  # as ``python -m`` does
    if is_script:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
        return
    sys.argv = ["ktdn_plugin", *words]
    from ktdn_plugin.__main__ import ktdn

    sys.exit(ktdn("python -m ktdn_plugin"))
