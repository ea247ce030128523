"""Fixtures that the tests share: tiny pairs of images, and the real command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers of two threads each on two cores slow each other down. Before torch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from helpers import FRESH, write_png
from preloaded import CAN_FORK, Command, together

from ktdn_plugin import subcommands

Runner = Callable[..., subprocess.CompletedProcess]

WORKING = {"run", "train", "fails", "mmengine_run", "browser", "preloaded_commands"}
"""Fixtures that train, or start processes."""
SLOW = {*Path(__file__).with_name("slow_tests.txt").read_text(encoding="utf-8").split()}
"""Others that took more than a second when they were last measured (pytest --durations=0)."""
SECONDS = {True: 10.0, False: 0.2}
"""What a test takes, about, by whether it is slow."""


def pytest_configure(config: pytest.Config) -> None:
    # xdist would begin with the files of most tests, and end with one worker in one long test.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that train or start processes as slow, all but a file's first, and orders files.

    Files that take longest come first.
    """
    touched = set()
    seconds: Counter[Path] = Counter()
    for item in items:
        if item.get_closest_marker("slow") is None and WORKING & {*item.fixturenames}:
            if item.path in touched:
                item.add_marker(pytest.mark.slow)
            touched.add(item.path)
        if item.get_closest_marker("slow") is None and item.nodeid.partition("[")[0] in SLOW:
            item.add_marker(pytest.mark.slow)
        seconds[item.path] += SECONDS[item.get_closest_marker("slow") is not None]
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with six training pairs, and two to validate."""
    for phase, count in (("train", 6), ("val", 2)):
        for index in range(count):
            for offset, kind in enumerate(("hazy", "clear")):
                size = (64, 80) if phase == "train" else (50 + 7 * index, 75)
                write_png(tmp_path / phase / kind / f"{index:02}.png", 10 * index + offset, size)
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Runs ``python -m ktdn_plugin`` in the test's folder, as a person would.

    In processes that have all loaded already (one, or several that form a job), unless a program
    is named, as :data:`helpers.FRESH`. So is a ``script``, a Python file of the test's folder.
    """

    def run_command(
        *words: str,
        program: tuple[str, ...] = (),
        script: str = "",
        processes: int = 1,
        env: Mapping[str, str] | None = None,
        **kwargs: object,
    ) -> subprocess.CompletedProcess:
        file = tmp_path / script if script else None
        if processes > 1:
            done = together(words, [tmp_path] * processes, script=file)
            code = max(one.returncode for one in done)
            out, err = "".join(one.stdout for one in done), "".join(one.stderr for one in done)
            return subprocess.CompletedProcess(words, code, out, err)
        if not program and not kwargs and CAN_FORK:
            return Command(words, tmp_path, env or {}, file).wait(300)
        program = program or ((str(file),) if file else FRESH)
        # Two processes of two threads each on two cores slow each other down.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        return subprocess.run(
            [sys.executable, *program, *map(str, words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            **kwargs,
        )

    return run_command


@pytest.fixture
def preloaded_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets commands that run other ``ktdn`` commands start them where all has been loaded."""

    def start(
        program: list[str], *, cwd: Path | None, env: dict[str, str], check: bool
    ) -> subprocess.CompletedProcess:
        assert program[:3] == [sys.executable, *FRESH]
        assert not check
        done = Command(program[3:], cwd or Path.cwd(), env).wait(300)
        os.write(1, done.stdout.encode())
        os.write(2, done.stderr.encode())
        return done

    monkeypatch.setattr(subcommands, "subprocess", SimpleNamespace(run=start))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """Headless Chromium, without a network of its own."""
    selenium = pytest.importorskip("selenium", reason="selenium is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    assert selenium
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 20 MiB, which ``remount`` makes larger or smaller."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)
