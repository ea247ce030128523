"""``ktdn env``: what a report needs, and nothing that is private."""

from __future__ import annotations

import getpass
import platform
from importlib import metadata
from pathlib import Path

from ktdn_plugin import __version__, environment


def test_versions_and_devices(run) -> None:
    done = run("env")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert rows["ktdn-plugin"] == __version__
    assert rows["Python"].startswith(platform.python_version())
    for name in ("torch", "basicsr", "mmengine", "timm"):
        assert rows[name] == metadata.version(name)
    assert "threads" in rows["CPU"]
    assert str(Path.home()) not in done.stdout
    assert platform.node() not in done.stdout
    assert getpass.getuser() not in done.stdout.split()


def test_what_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package"))
    lines = environment.describe_environment()
    assert any(line.split() == ["no-such-package", "not", "installed"] for line in lines)
